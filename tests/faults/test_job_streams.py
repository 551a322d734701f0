"""A job's event stream that goes wrong: the job's end is found, and never made up."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Unpack

import anyio
import pytest

from elluminate_async import AuthenticationError, BatchOptionChanges, BatchOptions, Progress
from elluminate_async.operations import jobs
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script, reply
from tests.faults.gateway import Gateway, behind_gateway, in_turn, is_stream
from tests.matrix import Fired
from tests.transport.wiring import HEAD


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


KEYS = WireProfile()
VALUES = ["a", "b", "c"]
ECHOES = ["echo say a", "echo say b", "echo say c"]
OPTIONS = BatchOptions(chunk_size=10, stream_silence=0.4)

TRAP = b'{"status": "FAILURE", "error_msg": "never to be believed"}'


def event(document: object, **fields: str) -> bytes:
    lines = [f"{name}: {value}\n" for name, value in fields.items()]
    return f"{''.join(lines)}data: {json.dumps(document)}\n\n".encode()


def stream_of(*parts: bytes, fired: Fired, stays: bool = False) -> Script:
    """Sends the parts and ends the stream, or leaves it open."""

    async def script(received: Received, connection: Connection) -> None:
        fired()
        await connection.send(HEAD)
        for part in parts:
            await connection.send(part)
        if stays:
            await connection.client_left()

    return script


def answered(answer: bytes, fired: Fired) -> Script:
    async def script(received: Received, connection: Connection) -> bytes:
        fired()
        return answer

    return script


class Watched:
    """What the client asked of the job."""

    def __init__(self, gateway: Gateway) -> None:
        self.streams = [seen for seen in gateway.requests if is_stream(seen)]
        self.polls = [
            seen
            for seen in gateway.requests
            if seen.method == "GET" and "/responses/batches/" in seen.path and not is_stream(seen)
        ]


async def followed(
    scripts: Sequence[Script] | Callable[[Gateway], Sequence[Script]],
    **options: Unpack[BatchOptionChanges],
) -> Watched:
    """A batch of one job whose first streams are these: it must have its rows."""
    async with behind_gateway(KEYS, OPTIONS.replace(**options)) as (stage, gateway):
        made = scripts(gateway) if callable(scripts) else scripts
        gateway.choose = in_turn(is_stream, made)
        responses = await stage.generate(VALUES)

        assert [r.response_str for r in responses] == ECHOES
        assert set(stage.model.answered.values()) == {1}
        assert len(gateway.posts()) == 1
    return Watched(gateway)


@pytest.mark.row(39)
async def test_a_stream_that_ends_within_an_event(fired: Fired) -> None:
    """What came of the event is not taken for it; the stream is opened once more."""
    cut = stream_of(event({"status": "STARTED"}), b"data: " + TRAP + b"\n", fired=fired)
    watched = await followed([cut])

    assert (len(watched.streams), len(watched.polls)) == (2, 0)


@pytest.mark.row(40)
@pytest.mark.parametrize("parts", [(), (event({"status": "STARTED"}),)])
async def test_a_stream_that_ends_without_an_end(parts: tuple[bytes, ...], fired: Fired) -> None:
    """Opened once more, then the status is polled: a stream's end is not the job's."""
    watched = await followed([stream_of(*parts, fired=fired)] * 2)

    assert len(watched.streams) == 2
    assert watched.polls


@pytest.mark.row(41)
@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (b"id: 7\n", "7"),
        ("id: näher/8\n".encode(), "näher/8"),
        (b"id: 7\nid: a\0b\n", "7"),
        (b"id: 7\nid:\n", None),
        (b"", None),
        (b"id: " + b"x" * 5000 + b"\n", None),
    ],
    ids=["id", "not ASCII", "NUL", "emptied", "none", "endless"],
)
async def test_a_stream_is_taken_up_where_it_was_left(
    fields: bytes, sent: str | None, fired: Fired
) -> None:
    """`Last-Event-ID` names the last id; an event that comes a second time changes nothing."""
    started = fields + b'data: {"status": "STARTED"}\n\n'
    repeats: list[bytes] = []

    def scripts(gateway: Gateway) -> list[Script]:
        async def again(received: Received, connection: Connection) -> bytes:
            answer = await gateway.passed(received)
            repeats.append(answer)
            chunk = b"%x\r\n%s\r\n" % (len(started), started)
            return answer.replace(b"\r\n\r\n", b"\r\n\r\n" + chunk * 2, 1)

        return [stream_of(started, fired=fired), again]

    watched = await followed(scripts)

    first, second = watched.streams
    found = second.headers.get("last-event-id")
    assert "last-event-id" not in first.headers
    assert (found and found.encode("latin-1").decode()) == sent
    assert (len(repeats), len(watched.polls)) == (1, 0)


@pytest.mark.row(42)
@pytest.mark.parametrize(
    ("retry", "seconds"),
    [(b"0", 0.5), (b"900", 0.9), (b"1000000000000", 1.2), (b"1e12", 0.5), (b"abc", 0.5)],
)
async def test_the_wait_before_a_stream_is_opened_again(
    retry: bytes, seconds: float, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the stream asks, within bounds; what is no number is not heard."""
    assert jobs.RECONNECT_WAITS == (0.5, 30.0)
    monkeypatch.setattr(jobs, "RECONNECT_WAITS", (0.5, 1.2))
    asking = b"retry: " + retry + b"\n" + event({"status": "STARTED"})
    watched = await followed([stream_of(asking, fired=fired)])

    first, second = watched.streams
    assert seconds <= second.at - first.at < seconds + 1


@pytest.mark.row(43)
@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>sign in</html>", Content_Type="text/html"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        reply(503, b"data: " + TRAP + b"\n\n", Content_Type="text/event-stream"),
        reply(503, b"upstream connect error", Content_Type="text/plain"),
        reply(404),
    ],
    ids=["html", "204", "503 as a stream", "503", "404"],
)
async def test_an_answer_that_is_no_stream(answer: bytes, fired: Fired) -> None:
    """The status counts before the type: no more streams are opened, the status is polled."""
    watched = await followed([answered(answer, fired)])

    assert len(watched.streams) == 1
    assert watched.polls


@pytest.mark.row(43)
async def test_a_stream_that_the_key_does_not_open(fired: Fired) -> None:
    """401 is the key's, and true of the whole batch; nothing is polled with it."""
    refusal = reply(401, b'{"detail": "revoked"}', Content_Type="text/event-stream")
    async with behind_gateway(KEYS, OPTIONS) as (stage, gateway):
        gateway.choose = in_turn(is_stream, [answered(refusal, fired)])
        with pytest.raises(AuthenticationError, match="revoked"):
            await stage.generate(VALUES)
    watched = Watched(gateway)

    assert (len(watched.streams), watched.polls) == (1, [])


@pytest.mark.row(44)
@pytest.mark.parametrize(
    "endless",
    [b"data: " + b"x" * 65_536, (b"data: " + b"x" * 1018 + b"\n") * 64],
    ids=["line", "event"],
)
async def test_a_stream_without_end(endless: bytes, fired: Fired) -> None:
    """A line, or an event of lines: given up at 8 MiB, its connection closed, the job polled."""
    sent = 0

    async def script(received: Received, connection: Connection) -> None:
        nonlocal sent
        fired()
        await connection.send(HEAD)
        while sent < 1 << 30:
            await connection.send(endless if sent == 0 else endless.removeprefix(b"data: "))
            sent += len(endless)

    watched = await followed([script])

    assert len(watched.streams) == 1
    assert watched.polls
    # What the client read, and what was on its way by then.
    assert sent < 64 << 20


@pytest.mark.row(45)
@pytest.mark.parametrize("stays", [(), (event({"status": "STARTED"}),)], ids=["headers", "event"])
async def test_a_stream_that_falls_silent(stays: tuple[bytes, ...], fired: Fired) -> None:
    """As behind a proxy that buffers: after the silence allowed the status is polled."""
    started = time.monotonic()
    watched = await followed([stream_of(*stays, fired=fired, stays=True)])

    assert len(watched.streams) == 1
    assert watched.polls
    assert watched.polls[0].at - watched.streams[0].at >= 0.4
    assert time.monotonic() - started < 10


@pytest.mark.row(36)
async def test_a_stream_of_heartbeats(fired: Fired) -> None:
    """Comments keep a stream of a slow job; they do not carry it over the deadline."""

    async def beat(received: Received, connection: Connection) -> None:
        await connection.send(HEAD)
        with contextlib.suppress(ConnectionError):
            while True:
                fired()
                await connection.send(b": keep-alive\n\n")
                await anyio.sleep(0.05)

    async with behind_gateway(KEYS, OPTIONS) as (stage, gateway):
        gateway.choose = in_turn(is_stream, [beat])
        variables = await stage.variables(VALUES)
        started = time.monotonic()
        responses = await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=OPTIONS.replace(deadline=1.5),
        )
        seconds = time.monotonic() - started
    watched = Watched(gateway)

    assert (len(watched.streams), len(watched.polls)) == (1, 0)
    assert 1.4 <= seconds < 1.5 + 2
    assert {error.code for error in responses.failed.values()} == {"deadline"}


@pytest.mark.row(46)
@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "REVOKED", "REJECTED", "TIMEOUT"])
async def test_the_first_end_of_a_job_counts(status: str, fired: Fired) -> None:
    """After progress that goes back, unknown words and events: whatever follows is not read."""
    steps: list[Progress] = []
    async with behind_gateway(KEYS, OPTIONS.replace(on_progress=steps.append)) as (stage, gateway):

        async def odd(received: Received, connection: Connection) -> None:
            await gateway.passed(received)
            poll = received.path.removesuffix("/stream")
            done = await gateway.passed(dataclasses.replace(received, target=poll))
            result = json.loads(done.partition(b"\r\n\r\n")[2])["result"]
            fired()
            await connection.send(HEAD)
            progress = [{"processed": n, "total": 3} for n in (2, 1, 0)]
            for at in progress:
                await connection.send(event({"status": "STARTED", "progress": at}))
            await connection.send(event({"status": "WARMING_UP"}))
            await connection.send(event({"more": [1]}, event="news"))
            end = {"status": status, "error_msg": "of course"}
            await connection.send(event(end | {"result": result if status == "SUCCESS" else None}))
            await connection.send(event({"status": "STARTED"}))
            await connection.send(b"data: " + TRAP + b"\n\n")

        variables = await stage.variables(VALUES)
        steps.clear()
        gateway.choose = in_turn(is_stream, [odd])
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
    watched = Watched(gateway)

    assert (len(watched.streams), len(watched.polls)) == (1, 0)
    assert [step.done for step in steps] == [1, 2, 3]
    if status == "SUCCESS":
        assert [r.response_str for r in responses] == ECHOES
    else:
        code = "revoked" if status == "REVOKED" else "job_failed"
        assert {error.code for error in responses.failed.values()} == {code}
        assert all(f"{status}: of course" in error.text for error in responses.failed.values())


@pytest.mark.row(47)
async def test_an_event_that_is_no_document(fired: Fired, caplog: pytest.LogCaptureFixture) -> None:
    """Skipped and counted; with nothing else on the stream, the status is polled."""
    caplog.set_level(logging.DEBUG, "elluminate_async")
    bad = b"data: {nonsense\n\ndata: [1]\n\n" + event({"status": 7})
    watched = await followed([stream_of(bad, fired=fired)] * 2)

    assert len(watched.streams) == 2
    assert watched.polls
    assert any("3 events that are no status document" in r.getMessage() for r in caplog.records)


@pytest.mark.row(47)
async def test_a_bad_event_among_good_ones(fired: Fired) -> None:
    """It costs nothing: the end that follows on the same stream is taken."""

    def scripts(gateway: Gateway) -> list[Script]:
        async def preceded(received: Received, connection: Connection) -> bytes:
            fired()
            bad = b"data: {nonsense\n\n"
            answer = await gateway.passed(received)
            chunk = b"%x\r\n%s\r\n" % (len(bad), bad)
            return answer.replace(b"\r\n\r\n", b"\r\n\r\n" + chunk, 1)

        return [preceded]

    watched = await followed(scripts)

    assert (len(watched.streams), len(watched.polls)) == (1, 0)


@pytest.mark.row(47)
async def test_a_status_that_is_no_document_either(fired: Fired) -> None:
    """Then it is an error, after a few polls: the job was taken, so its items are in doubt."""
    async with behind_gateway(KEYS, OPTIONS) as (stage, gateway):

        def choose(received: Received) -> Script | None:
            if is_stream(received):
                return stream_of(b"data: {nonsense\n\n", fired=fired)
            garbled = "/responses/batches/" in received.path
            return answered(reply(200, b"{nonsense"), fired) if garbled else None

        gateway.choose = choose
        responses = await stage.generate(VALUES)
    watched = Watched(gateway)

    assert len(watched.polls) == jobs.SENSELESS_POLLS
    assert [error.code for error in responses.failed.values()] == ["outcome_unknown"] * 3
    assert "{nonsense" in responses.failed[0].text
