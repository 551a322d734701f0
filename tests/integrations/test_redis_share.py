"""`RedisShare` keeps the promises of a share of limits, by a real Redis."""

from __future__ import annotations

import asyncio
import io
import math
import multiprocessing
import pickle
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from benchmarks.common.redis_server import RedisServer
from elluminate_async import BatchOptions, ConfigurationError, RateLimit
from elluminate_async.batch.share import LimitShare, Slots
from elluminate_async.batch.share_table import ShareTable
from elluminate_async.integrations import redis_scripts
from elluminate_async.integrations.redis import RedisShare
from tests.integrations.redis_servers import a_redis
from tests.limits.shares import EPSILON, is_new

ONE = [Slots("requests", interval=0.25, number=1, guard=1.0)]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with a_redis() as server:
        yield server


@pytest.fixture
async def share(redis: RedisServer) -> AsyncIterator[RedisShare]:
    """One that nobody has used."""
    redis.command("FLUSHALL")
    share = RedisShare(redis.url, name="a key's")
    yield share
    await share.aclose()


def fields_of(redis: RedisServer, share: RedisShare) -> dict[str, float]:
    words = redis.command("HGETALL", share.key).split("\r\n")[2::2]
    pairs = zip(words[::2], words[1::2], strict=True)
    return {name: float(value) for name, value in pairs if name != "run"}


def with_a_clock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scripts, by a clock that the test sets."""
    for name in ("RESERVE", "GUARD", "HOLD", "HELD", "PACE", "STATE"):
        script = getattr(redis_scripts, name)
        assert script.count("redis.call('TIME')") == 1
        script = script.replace("redis.call('TIME')", "redis.call('LRANGE', 'clock', 0, 1)")
        monkeypatch.setattr(redis_scripts, name, script)


def set_clock(redis: RedisServer, now: float) -> None:
    redis.command("DEL", "clock")
    redis.command("RPUSH", "clock", str(int(now)), f"{now % 1 * 1e6:.3f}")


@pytest.mark.parametrize("seed", range(5))
async def test_the_scripts_do_what_the_table_does(
    redis: RedisServer, share: RedisShare, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one clock, each answer of a random sequence of calls is that of a `ShareTable`."""
    with_a_clock_of_its_own(monkeypatch)
    draw, table, now = random.Random(seed), ShareTable(), 1_800_000_000.0

    for _ in range(200):
        now += draw.choice([0.0, 0.001, 0.3, 2.5, 7.0]) * draw.random()
        set_clock(redis, now)
        match draw.randrange(5):
            case 0 | 1:
                limits = draw.sample(["requests", "items", "pace"], draw.randint(1, 3))
                idle = draw.choice([0.1, 1.0, math.inf])
                wanted = [
                    Slots(name, draw.random(), draw.randint(1, 9), draw.random(), idle)
                    for name in limits
                ]
                bounds = {"earliest": draw.uniform(-0.05, 0.5), "latest": draw.uniform(1, 9)}
                # Of one that has not seen the clock before, as it would see that it jumps.
                anew, asked = RedisShare(redis.url, name=share.name), time.monotonic()
                taken = await anew.reserve(wanted, **bounds)
                # The delay is from the return on.
                took = time.monotonic() - asked
                await anew.aclose()
                expected = [*table.reserve(now, wanted, **bounds)]
                assert [*taken[:3]] == pytest.approx(expected, abs=took + 1e-4)
            case 2:
                seconds = draw.random()
                await share.hold(seconds)
                table.hold(now, seconds)
            case 3:
                accepted, refused = draw.choice([0, 0, 3, 40]), draw.choice([None, 20.0, 7.5])
                told = await share.pace(accepted=accepted, refused=refused)
                expected = table.pace(now, accepted, refused)
                assert told == pytest.approx(expected, rel=1e-3, abs=1e-4)
            case _:
                assert await share.held() == pytest.approx(table.hold_left(now), abs=1e-4)
                state = await share.state()
                assert state.pace == pytest.approx(table.pace(now), rel=1e-3, abs=1e-4)
                ahead = {name: end - now for name, end in table.ends.items()}
                assert state.slots == pytest.approx(ahead, abs=1e-4)


async def test_what_is_unused_is_no_key_and_what_is_used_is_kept_a_day(
    redis: RedisServer, share: RedisShare
) -> None:
    """To look at a share changes nothing; its key outlives the last slot by a day."""
    assert isinstance(share, LimitShare)
    state = await share.state()
    assert (state.slots, state.hold, tuple(state.pace)) == ({}, 0.0, (0.0, 0.0, 0.0, 0.0))
    assert await share.held() == 0
    assert redis.command("DBSIZE") == ":0\r\n"

    await share.reserve([Slots("items", 1.0, 3600, 0.0)], earliest=0.0, latest=1.0)

    assert redis.command("KEYS", "*").split("\r\n")[2::2] == [share.key]
    left = int(redis.command("TTL", share.key)[1:])
    assert 25 * 3600 - 60 < left <= 25 * 3600 + 1


async def test_a_clock_that_was_set_forward_gives_no_slot_twice(
    redis: RedisServer, share: RedisShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots look over that others still have: who sees it takes none, and nobody for a second."""
    with_a_clock_of_its_own(monkeypatch)
    others = RedisShare(redis.url, name=share.name)
    set_clock(redis, 1_800_000_000.0)
    for _ in range(2):
        assert (await share.reserve(ONE, earliest=0.0, latest=2.0)).is_taken
    assert (await others.reserve(ONE, earliest=0.0, latest=2.0)).is_taken

    set_clock(redis, 1_800_000_010.0)
    # Nor by those that are under way already.
    answers = [share.reserve(ONE, earliest=0.0, latest=0.5) for _ in range(3)]
    assert await asyncio.gather(*answers) == [(False, 1.0, 0.0, 0.0)] * 3
    assert not (await others.reserve(ONE, earliest=0.0, latest=0.5)).is_taken

    set_clock(redis, 1_800_000_011.0)
    later = RedisShare(redis.url, name=share.name)
    assert (await later.reserve(ONE, earliest=0.0, latest=0.5)).delay <= EPSILON
    await later.aclose()
    await others.aclose()


async def test_that_the_clock_was_set_forward_is_known_until_redis_knows(
    redis: RedisServer, share: RedisShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the answer that showed it gave nothing, or Redis could not be told."""
    with_a_clock_of_its_own(monkeypatch)
    set_clock(redis, 1_800_000_000.0)
    await share.hold(60.0)
    assert (await share.reserve(ONE, earliest=0.0, latest=2.0)).hold > 0
    script = redis_scripts.GUARD
    monkeypatch.setattr(redis_scripts, "GUARD", "return redis.error_reply('LOADING')")
    set_clock(redis, 1_800_000_005.0)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await share.reserve(ONE, earliest=0.0, latest=2.0)

    monkeypatch.setattr(redis_scripts, "GUARD", script)
    held = await share.reserve(ONE, earliest=0.0, latest=2.0)
    assert held == (False, 0.0, pytest.approx(55.0), 0.0)
    redis.command("DEL", share.key)
    assert (await share.reserve(ONE, earliest=0.0, latest=2.0)).is_taken


async def test_a_restart_with_what_was_saved_gives_no_slot_twice() -> None:
    """What it loads is older than what it gave away, so all of that is to be over first."""
    with a_redis() as redis:
        share = RedisShare(redis.url, name="saved")
        await share.reserve(ONE, earliest=0.0, latest=9.0)
        redis.command("SAVE")
        for _ in range(4):
            await share.reserve(ONE, earliest=0.0, latest=9.0)
        await share.aclose()
        redis.stop()
        redis.start()

        assert (await share.state()).slots.keys() == {"requests"}
        # Else the first would begin where the second one did.
        redis.command("HSET", share.key, "at:end:requests", "1.0")
        assert await is_new(share, ONE)
        redis.command("HSET", share.key, "at:end:requests", "1.0")
        assert (await share.reserve(ONE, earliest=0.0, latest=9.0)).delay <= EPSILON
        await share.aclose()


async def test_a_user_who_may_not_ask_for_information_goes_without() -> None:
    """Only that a restart is not seen then, where it loads what was saved."""
    with a_redis("--user", "u", "on", ">p", "~*", "+@connection", "+eval", "+evalsha", "+time",
                 "+hgetall", "+hset", "+expire") as redis:  # fmt: skip
        share = RedisShare(f"redis://u:p@127.0.0.1:{redis.port}/0", name="x")
        assert await is_new(share, ONE)
        assert (await share.reserve(ONE, earliest=0.0, latest=9.0)).is_taken
        assert redis.command("HEXISTS", share.key, "run") == ":0\r\n"
        await share.aclose()


async def test_a_clock_that_was_set_back_holds_nobody_up(
    redis: RedisServer, share: RedisShare
) -> None:
    """Where the clock of Redis went back an hour, nobody waits for an hour."""
    await share.reserve(ONE, earliest=0.0, latest=2.0)
    await share.hold(0.5)
    for name, value in fields_of(redis, share).items():
        redis.command("HSET", share.key, name, repr(value + 3600))

    assert 0 < await share.held() <= 0.5
    await share.hold(0.1)
    taken = await share.reserve(ONE, earliest=0.0, latest=2.0)
    assert not taken.is_taken
    assert 0 < taken.hold <= 0.5
    ahead = (await share.state()).slots["requests"]
    assert 0 < ahead <= 1.25


async def test_a_restart_and_lost_scripts_cost_the_guard_at_most(share: RedisShare) -> None:
    """Scripts are loaded again; an empty Redis begins after the guard; no Redis is `OSError`."""
    with a_redis() as redis:
        share = RedisShare(redis.url, name="lost")
        assert await is_new(share, ONE)
        redis.command("SCRIPT", "FLUSH")
        taken = await share.reserve(ONE, earliest=0.0, latest=9.0)
        assert taken.is_taken
        assert taken.delay > 0.2

        redis.stop()
        with pytest.raises(ConnectionError, match="cannot be reached"):
            await share.reserve(ONE, earliest=0.0, latest=9.0)
        redis.start()
        assert await is_new(share, ONE)

        redis.pause()
        with pytest.raises(TimeoutError, match="did not answer within 2 s"):
            await share.held()
        # One that is cancelled meanwhile leaves no answer behind for the next.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(share.hold(60.0), 0.05)
        redis.go_on()
        assert (await share.pace(refused=3.0)).refused_rate == 3.0
        await share.aclose()


async def test_closing_leaves_the_calls_of_others_alone(share: RedisShare) -> None:
    """A call under way when another client closes the same share has its answer."""
    calls = [asyncio.create_task(share.pace(accepted=1)) for _ in range(20)]
    await asyncio.sleep(0)
    for _ in range(20):
        await share.aclose()
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    assert (await share.state()).pace.measured == 20.0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_loops_of_threads_and_forks_share_and_disturb_nobody(
    redis: RedisServer, share: RedisShare
) -> None:
    """Each loop has its own connections, and a forked child's end leaves the parent's intact."""

    async def take(times: int) -> None:
        for _ in range(times):
            await share.reserve(ONE, earliest=0.0, latest=1e6)

    async def take_and_close() -> None:
        await take(25)
        await share.aclose()

    await take(1)
    began = fields_of(redis, share)["at:end:requests"]
    threads = [asyncio.to_thread(lambda: asyncio.run(take_and_close())) for _ in range(3)]
    await asyncio.gather(*threads)
    # With a connection open: what the child closes must not be the parent's.
    child = multiprocessing.get_context("fork").Process(
        target=lambda: asyncio.run(take_and_close())
    )
    child.start()
    await asyncio.to_thread(child.join)
    assert child.exitcode == 0
    await take(1)

    ended = fields_of(redis, share)["at:end:requests"]
    assert ended - began == pytest.approx((3 * 25 + 25 + 1) * 0.25, abs=1e-4)
    used = [line for line in redis.command("CLIENT", "LIST").split("\r\n") if "evalsha" in line]
    assert len(used) == 1


async def test_a_password_is_in_no_text(share: RedisShare, log: io.StringIO) -> None:
    """Not in `repr`, errors and logs; a wrong one ends the call, and a right one works."""
    secret = "s3cret/p%40ss".replace("/", "%2F")
    with a_redis("--requirepass", "s3cret/p@ss") as redis:
        address = redis.url.removeprefix("redis://")
        right = RedisShare(f"redis://:{secret}@{address}", name="x")
        assert await right.held() == 0
        assert "s3cret" not in repr(right) + repr(BatchOptions(rate_limit=RateLimit(1)))
        assert pickle.loads(pickle.dumps(right)) == right
        assert hash(pickle.loads(pickle.dumps(right))) == hash(right)
        assert right != RedisShare(redis.url, name="x")
        for wrong in (f"redis://:{secret}x@{address}", f"redis://u:{secret}@{address}", redis.url):
            with pytest.raises(ConfigurationError, match="refuses the user or the pass") as raised:
                await RedisShare(wrong, name="x").held()
            assert "s3cret" not in str(raised.value)
            assert raised.value.__context__ is None
        await right.aclose()
    assert "s3cret" not in log.getvalue()


async def test_tls_is_checked(tmp_path: Path) -> None:
    """``rediss://`` works with the authority that it names, and not without."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    certificate.cert_chain_pems[0].write_to_path(paths["cert"])
    certificate.private_key_pem.write_to_path(paths["key"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with a_redis(
        "--tls-port", str(port), "--tls-cert-file", str(paths["cert"]), "--tls-key-file",
        str(paths["key"]), "--tls-ca-cert-file", str(paths["ca"]), "--tls-auth-clients", "no",
    ):  # fmt: skip
        share = RedisShare(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={paths['ca']}", name="x")
        assert (await share.reserve(ONE, earliest=0.0, latest=2.0)).is_taken
        await share.aclose()
        with pytest.raises(ConfigurationError, match="not trusted: name its authority"):
            await RedisShare(f"rediss://127.0.0.1:{port}/1", name="x").held()
        with pytest.raises(ConfigurationError, match="names a file that is not there"):
            await RedisShare(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs=/no", name="x").held()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://host/0", "must look like redis://host:6379/0"),
        ("redis://", "must look like"),
        ("redis://:pa/ss@host", "must look like"),
        ("redis://u:secret@host:99999", "must look like"),
        ("redis://u:secret@host/first", "'redis://host/first' names no database"),
        ("redis://u:secret@host?colour=red", "unexpected keyword argument 'colour'"),
        ("redis://u:secret@host?socket_timeout=soon", "has another form"),
        (7, "must be a string such as redis://"),
    ],
)
def test_a_wrong_url_is_told_before_anything_is_connected(url: str, problem: str) -> None:
    """The error is one of the configuration, and shows no credential."""
    with pytest.raises(ConfigurationError, match=problem) as raised:
        RedisShare(url, name="x")
    assert "secret" not in str(raised.value)
    for name in ("", "half of a character: \ud83d"):
        with pytest.raises(ConfigurationError, match="name must be a string of 1 to 200"):
            RedisShare("redis://host", name=name)


async def test_a_key_of_another_type_and_a_full_redis_are_told_apart(
    redis: RedisServer, share: RedisShare
) -> None:
    """What is somebody else's key never is a share; what has no memory is asked again."""
    redis.command("SET", share.key, "somebody's")
    with pytest.raises(ConfigurationError, match=r"cannot keep a share of limits.*WRONGTYPE"):
        await share.held()
    redis.command("DEL", share.key)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(ConnectionError, match="cannot do it now"):
            await share.hold(1.0)
    finally:
        redis.command("CONFIG", "SET", "maxmemory", "0")
    await share.hold(1.0)


async def test_a_cancellation_is_never_lost(share: RedisShare) -> None:
    """Whenever it comes, a call that is cancelled ends with it, also as its request is sent."""
    await share.held()
    for steps in range(60):
        asked = asyncio.create_task(share.held())
        for _ in range(steps):
            await asyncio.sleep(0)
        if asked.cancel():
            await asyncio.wait([asked])
            assert asked.cancelled(), steps
    assert await share.held() == 0.0


@pytest.mark.parametrize("figure", [b"nan", b"odd", b"1e200"])
async def test_a_redis_that_answers_with_no_number_or_an_absurd_one_is_told_of(
    figure: bytes,
) -> None:
    """By the script of the pace, and by that of the state, which `doctor` asks for."""
    word = b"$%d\r\n%s\r\n" % (len(figure), figure)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(1 << 16):
            for _ in range(content.count(b"CLIENT")):
                writer.write(b"+OK\r\n")
            if b"EVAL" in content:
                writer.write(b"*4\r\n" + 4 * word)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        share = RedisShare(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", name="k")
        for call in (share.pace, share.state):
            with pytest.raises(ConfigurationError, match="does not speak like Redis"):
                await call()
        await share.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"*1\r\n" * 5_000, b"%0\r\n", b"$-7\r\n", b"\x00\xff",
        b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n", b"*1\r\n$3\r\nnan\r\n", b"*1\r\n$3\r\nodd\r\n",
    ],
)  # fmt: skip
async def test_who_does_not_speak_like_redis_is_told_of(answer: bytes) -> None:
    """However odd its answers are, they end as an error of a share."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        odd = RedisShare(f"redis://user:hush@127.0.0.1:{port}/0", name="a key's")
        with pytest.raises((ConfigurationError, OSError)) as caught:
            await odd.held()
        assert "hush" not in str(caught.value)
        await odd.aclose()
