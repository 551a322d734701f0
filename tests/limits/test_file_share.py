"""`FileShare`: processes, forks and threads that share a file, and what may become of that."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs
from __future__ import annotations

import errno
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from elluminate_async import BatchOptions, ConfigurationError, FileShare, RateLimit
from elluminate_async.batch.share import LimitShare, Slots
from elluminate_async.limits import file_share, share_record
from elluminate_async.limits.limits import Limits
from tests.limits.sharing import FORKS, THREADS

ROOT = Path(__file__).parents[2]
REQUESTS, PERIOD = 50, 0.5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


def begun(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.limits.sharing", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> str:
    """End it with its forks, at once; what it had said."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


@pytest.fixture
def workers(path: Path) -> Generator[list[subprocess.Popen[str]]]:
    """Four processes that send under one limit, each of which has sent."""
    found = [begun("send", path, REQUESTS, PERIOD) for _ in range(4)]
    for one in found:
        assert one.stdout is not None
        one.stdout.readline()
    yield found
    for one in found:
        if one.returncode is None:
            kill(one)


def times_of(worker: subprocess.Popen[str]) -> list[float]:
    """When it sent, until now; it is ended."""
    # Its last line may be half.
    return [float(line) for line in kill(worker).splitlines()[:-1]]


def most_in_a_window(times: list[float]) -> int:
    times = sorted(times)
    # A busy machine may keep a process between its slot and its look at the clock.
    return max(bisect_left(times, at + 0.9 * PERIOD) - i for i, at in enumerate(times))


async def end_of(share: FileShare, *, earliest: float = 0.0) -> float:
    """When the slots end that are given away, after one of a second more."""
    taken = await share.reserve([Slots("a", 1.0, 1, 1.0)], earliest=earliest, latest=1e9)
    assert taken.is_taken
    return time.monotonic() + taken.delay + 1.0


async def test_it_is_a_share(path: Path) -> None:
    """It is sent to other processes and compared by what it was made with, and opens nothing."""
    share = FileShare(path, name="key")
    options = BatchOptions(rate_limit=RateLimit(20, 2.0), share=share)

    assert isinstance(share, LimitShare)
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(FileShare(str(path), "key")) == hash(share) != hash(FileShare(path))
    assert share != FileShare(path)
    assert share != "key"
    assert repr(share) == f"FileShare('{path}', name='key')"
    assert not path.exists()
    state = await share.state()
    assert (state.slots, state.hold, state.pace) == ({}, 0.0, (0.0, 0.0, 0.0, 0.0))
    assert not path.exists()
    await share.aclose()


@pytest.mark.parametrize("given", [None, "", 3, b"limits"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    """Before anything is opened, and so is what is no name."""
    with pytest.raises(ConfigurationError, match="path must be that of a file"):
        FileShare(given)
    with pytest.raises(ConfigurationError, match="name must be a text of 1 to 200"):
        FileShare("limits", given if given != "" and not isinstance(given, str) else "x" * 201)
    with pytest.raises(ConfigurationError, match="name must be a text of 1 to 200"):
        FileShare("limits", "half of a character: \ud83d")


async def test_names_have_limits_of_their_own(path: Path) -> None:
    """In one file; slots, holds and pace are kept between two objects, as between processes."""
    one, other = FileShare(path, "one"), FileShare(path, "other")
    end = await end_of(one)
    await other.hold(60)
    await other.pace(accepted=40)
    assert (await other.pace(refused=20.0)).refused_rate == 20
    assert await end_of(one) == pytest.approx(end + 1)
    assert await one.held() == 0

    again = await FileShare(path, "other").state()
    assert 59 < again.hold <= 60
    assert again.pace.refused_rate == 20
    assert again.pace.measured > 0
    assert (await other.reserve([Slots("a", 1.0, 1, 1.0)], earliest=0, latest=9)).is_taken is False


async def test_forks_and_threads_exclude_each_other(path: Path) -> None:
    """None of the slots is given twice: their number is that of the calls."""
    share, times = FileShare(path), 100
    before = time.monotonic()
    process = begun("count", path, times)
    said, _ = process.communicate(timeout=120)
    assert said.count("ready") == 1 + FORKS

    end = await end_of(share, earliest=-1e9)
    slots = 1 + (1 + FORKS) * THREADS * times + 1
    assert before + slots <= end <= time.monotonic() + slots


async def test_a_process_may_be_killed_at_any_moment(path: Path) -> None:
    """Nothing that was given away is given again, and the file can be used."""
    share, end = FileShare(path), 0.0
    for _ in range(3):
        process = begun("count", path, 10**9)
        assert process.stdout is not None
        process.stdout.readline()
        kill(process)
        later = await end_of(share, earliest=-1e9)
        assert later > end
        end = later


def test_processes_keep_a_limit_together(workers: list[subprocess.Popen[str]]) -> None:
    """Four of them, also while one is killed and one is stopped and goes on; the others use it."""
    killed, stopped, *_ = workers
    time.sleep(0.5)
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    time.sleep(1)
    stopped.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    at = time.monotonic()
    found = [times_of(one) for one in workers]

    times = [at for one in found for at in one]
    assert most_in_a_window(times) <= REQUESTS
    assert all(times_of_one for times_of_one in found)
    assert all(one[-1] > at - 5 for one in found[2:])


def test_what_one_is_told_to_wait_all_processes_wait(
    workers: list[subprocess.Popen[str]],
) -> None:
    """A hold of one is a hold of all; what was under way to its slot may go."""
    assert workers[0].stdin is not None
    time.sleep(0.2)
    told = time.monotonic()
    workers[0].stdin.write("hold 300\n")
    workers[0].stdin.flush()
    time.sleep(2.5)
    found = [times_of(one) for one in workers]

    assert all(one[0] < told for one in found)
    assert max(at for one in found for at in one) < told + 2


async def test_what_is_no_share_is_left_as_it_is(path: Path) -> None:
    """A file with something else in it is somebody's, and no share."""
    path.write_text("my notes" * 100)

    with pytest.raises(ConfigurationError, match="no file of a FileShare, and is left as it is"):
        await end_of(FileShare(path))
    with pytest.raises(ConfigurationError, match="no file of a FileShare"):
        await FileShare(path).state()
    assert path.read_text() == "my notes" * 100


def torn(content: bytes) -> bytes:
    return content[:-300]


def half_written(content: bytes) -> bytes:
    return content[:100] + bytes(100) + content[200:]


def flipped(content: bytes) -> bytes:
    return content[:80] + bytes([content[80] ^ 1]) + content[81:]


def empty(content: bytes) -> bytes:
    return content[:0]


def begun_only(content: bytes) -> bytes:
    return content[:10]


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


@pytest.mark.parametrize("damage", [torn, half_written, flipped, empty, begun_only, zeros])
async def test_a_damaged_file_is_begun_anew(path: Path, damage: Any) -> None:
    """With the second in which nothing is given away, as what had been is not known."""
    share = FileShare(path)
    for _ in range(50):
        await end_of(share)
    path.write_bytes(damage(path.read_bytes()))

    before = time.monotonic()
    assert before + 2 <= await end_of(share) <= time.monotonic() + 2
    assert await end_of(share) == pytest.approx(before + 3, abs=1)


async def test_a_file_that_is_deleted_is_made_anew(path: Path) -> None:
    """Also where somebody has it open; its directory is not made."""
    share = FileShare(path)
    end = await end_of(share)
    path.unlink()
    assert await end_of(share) < end + 1
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.parent.rmdir()
    for call in (end_of(share), share.state()):
        with pytest.raises(ConfigurationError, match="its directory does not exist"):
            await call


async def test_a_file_of_an_earlier_boot_is_void(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock began anew: by what system tells which boot it is, and by the clock itself."""
    share = FileShare(path)
    for _ in range(50):
        await end_of(share)
    boot = file_share._boot()
    monkeypatch.setattr(file_share, "_boot", lambda: bytes(16))
    assert await end_of(share) < time.monotonic() + 3
    content = path.read_bytes()
    record = content[len(share_record.MAGIC) :]
    now = time.monotonic()
    assert share_record.table_in(record, bytes(16), now) is not None
    assert share_record.table_in(record, boot, now) is None
    assert share_record.table_in(record, bytes(16), now - 3600) is None


def test_a_system_without_locks_is_told_what_to_use(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no crash of the first call."""
    monkeypatch.setattr(file_share, "_HAS_LOCKS", False)
    with pytest.raises(ConfigurationError, match="use a RedisShare"):
        FileShare(path)


async def test_a_file_that_is_deleted_as_it_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the old one is nobody's: the new one is made and taken."""
    lock, opened = file_share._try_lock, 0

    def lock_and_delete(file: int) -> bool:
        nonlocal opened
        opened += 1
        if opened == 1:
            path.unlink()
        return lock(file)

    monkeypatch.setattr(file_share, "_try_lock", lock_and_delete)
    await end_of(FileShare(path))
    assert path.exists()
    assert opened == 2


async def test_what_can_never_be_a_share_says_why(tmp_path: Path) -> None:
    """A directory, and what is below a file."""
    with pytest.raises(ConfigurationError, match="cannot be the file of a share: it is a dir"):
        await end_of(FileShare(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="what should be its directory is none"):
        await end_of(FileShare(tmp_path / "file" / "limits"))


async def test_a_full_disk_is_a_share_that_is_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be room again, and then it goes on."""
    write = os.pwrite
    full = os.open("/dev/full", os.O_WRONLY) if Path("/dev/full").exists() else None

    def to_full(_file: int, record: bytes, at: int) -> int:
        if full is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(full, record, at)

    monkeypatch.setattr(os, "pwrite", to_full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        await end_of(FileShare(path))
    monkeypatch.undo()
    await end_of(FileShare(path))
    if full is not None:
        os.close(full)


async def test_a_file_has_room_for_64_names(path: Path) -> None:
    """Then it says so, and those that it has go on."""
    for number in range(share_record.MOST_RECORDS):
        await end_of(FileShare(path, f"name {number}"))
    with pytest.raises(ConfigurationError, match="has limits of 64 names"):
        await end_of(FileShare(path, "one more"))

    await end_of(FileShare(path, "name 63"))
    assert path.stat().st_size == share_record.MOST_BYTES < 33_000


async def test_a_lock_that_is_never_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a process that is stopped in the midst: the share is away, and nobody is blocked."""
    monkeypatch.setattr(file_share, "_LOCK_SECONDS", 0.05)
    share = FileShare(path)
    await end_of(share)
    file = os.open(path, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        with pytest.raises(TimeoutError, match="locked by a process that does not go on"):
            await end_of(share)
        assert (await share.state()).slots
    finally:
        os.close(file)
    await end_of(share)


@pytest.mark.parametrize("ask", ["held", "state"])
async def test_what_is_no_regular_file_keeps_no_share(tmp_path: Path, ask: str) -> None:
    """Neither a pipe, which would be waited for, nor a device, which forgets."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigurationError, match="is no regular file"):
            await getattr(FileShare(path), ask)()


@pytest.mark.parametrize("limit", [(1, 0.01), (2, 0.05), (10**9, 0.001)])
async def test_a_period_shorter_than_timers_are_exact_is_kept(
    path: Path, limit: tuple[int, float]
) -> None:
    """Requests go on, if slower than they might, and the loop is not kept from others."""
    limits = Limits(10, RateLimit(*limit), None, share=FileShare(path), chunk=1)
    with anyio.fail_after(60):
        for _ in range(10):
            limits.ended(await limits.admit())
    await limits.aclose()
