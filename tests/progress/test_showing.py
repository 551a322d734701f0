"""A display shows what is known, ends with its call, and harms nothing."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from elluminate_async import (
    AsyncClient,
    AuthenticationError,
    BatchOptions,
    Evaluation,
    InputError,
    Progress,
    RatingMode,
)
from elluminate_async.progress import display, plain
from elluminate_async.progress import terminal as terminal_view
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from tests.evaluation.scene import CRITERIA, PROMPT, generated, words
from tests.flow.bench import EchoModel
from tests.progress.terminal import terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")


def asked(progress: Any = True) -> dict[str, Any]:
    """The arguments of an evaluation whose progress is shown."""
    given: dict[str, Any] = {"prompt": PROMPT, "criteria": CRITERIA, "progress": progress}
    return {**given, "rating_mode": RatingMode.FAST}


class HeldModel(EchoModel):
    """One that answers nobody until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        await self.released.wait()
        return await super().complete(request)


@asynccontextmanager
async def held() -> AsyncGenerator[tuple[AsyncClient, HeldModel]]:
    """A client of a server whose model is held back."""
    model = HeldModel()
    async with (
        LocalServer(model=model) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        yield client, model


@asynccontextmanager
async def released() -> AsyncGenerator[AsyncClient]:
    """A client of a server whose model answers."""
    async with held() as (client, model):
        model.released.set()
        yield client


def drawing() -> list[threading.Thread]:
    """The threads that show something."""
    return [one for one in threading.enumerate() if one.name == "elluminate-progress"]


def has_ended() -> bool:
    """Whether nothing is shown any more, nor in a moment."""
    for thread in drawing():
        thread.join(30)
    return not drawing()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last picture is waited for, however busy the machine is."""
    monkeypatch.setattr(display, "PATIENCE", 30.0)
    monkeypatch.setattr(terminal_view, "PATIENCE", 30.0)


async def test_a_pipe_gets_a_line_at_the_end_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One call of less than 5 s, one line, and nothing on standard output."""
    async with released() as client:
        await client.evaluate(words(3), **asked())

    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("evaluating  3 of 3 items, ")
    assert ", 6 tokens, in " in line
    assert has_ended()


async def test_a_pipe_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while nothing comes, as that is when people ask."""
    monkeypatch.setattr(plain, "INTERVAL", 0.01)
    async with held() as (client, model):
        call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
        said = ""
        async with asyncio.timeout(30):
            while said.count("evaluating  0 of 3 items, 0.0/s, 3 chunks in flight\n") < 2:
                await asyncio.sleep(0.01)
                said += capsys.readouterr().err
        model.released.set()
        await call

    assert "evaluating  3 of 3 items, " in capsys.readouterr().err


async def test_nothing_is_shown_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """By default there is no line, and no thread."""
    seen = list[int]()
    options = BatchOptions(on_progress=lambda _: seen.append(len(drawing())))
    async with released() as client:
        await client.evaluate(words(3), **asked(False), options=options)

    assert capsys.readouterr() == ("", "")
    assert seen == [0, 0, 0]


async def test_a_function_is_told_and_so_is_the_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``progress`` and ``on_progress`` go together, whichever form the first has."""
    told, also = list[Progress](), list[Progress]()
    options = BatchOptions(on_progress=also.append)
    async with released() as client:
        await client.evaluate(words(3), **asked(told.append), options=options)
        assert capsys.readouterr().err == ""
        await client.evaluate(words(2), **asked(), options=options)

    assert [one.done for one in told] == [1, 2, 3]
    assert also[:3] == told
    assert [one.done for one in also[3:]] == [1, 2]
    assert "evaluating  2 of 2 items" in capsys.readouterr().err


async def an_async_one(_: Progress) -> None:
    pass


@pytest.mark.parametrize("progress", [None, 1, "yes", an_async_one])
async def test_another_value_is_refused(progress: Any) -> None:
    """At once, and the text says what it may be."""
    async with released() as client:
        wanted = "progress must be True, False or a function of one Progress"
        with pytest.raises(InputError, match=wanted):
            await client.evaluate(words(1), **asked(progress))
        with pytest.raises(InputError, match=wanted):
            client.stream_evaluate(words(1), **asked(progress))


async def test_a_stream_of_unknown_length_shows_how_many_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has no total, and the display begins with the first step."""
    async with released() as client:
        unread = client.stream_evaluate(generated(3), **asked())
        assert drawing() == []
        async with unread as records:
            async for _ in records:
                assert drawing()

    assert capsys.readouterr().err.startswith("evaluating  3 items, ")
    assert has_ended()


async def test_a_stream_that_is_left_ends_its_display(capsys: pytest.CaptureFixture[str]) -> None:
    """The consumer goes, and so does the thread."""
    async with released() as client, client.stream_evaluate(generated(500), **asked()) as records:
        async for _ in records:
            break

    assert ", stopped after " in capsys.readouterr().err
    assert has_ended()


async def test_a_collection_has_its_total(capsys: pytest.CaptureFixture[str]) -> None:
    """It is known once the rows have been listed."""
    seen = list[int | None]()
    options = BatchOptions(on_progress=lambda one: seen.append(one.total))
    async with released() as client:
        collection = await client.collections.create("c")
        await client.template_variables.add_many(words(3), collection=collection)
        await client.evaluate(collection=collection, epochs=2, **asked(), options=options)

    assert seen == [6] * 6
    assert "evaluating  6 of 6 items" in capsys.readouterr().err


async def test_batches_show_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    """Each by the name of its operation."""
    async with released() as client:
        template, _ = await client.prompt_templates.get_or_create(PROMPT, name="t")
        await client.criteria.add_many(CRITERIA, prompt_template=template)
        collection = await client.collections.create("c")
        rows = await client.template_variables.add_many(
            words(4), collection=collection, progress=True
        )
        experiment = await client.experiments.create(
            "e", prompt_template=template, collection=collection
        )
        responses = await client.responses.generate_many(
            experiment=experiment, template_variables=rows, progress=True
        )
        await client.ratings.rate_many(responses, progress=True)
        await client.responses.add_many(
            ["x"] * 4, experiment=experiment, template_variables=rows, progress=True
        )

    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "adding  4 of 4 items",
        "generating  4 of 4 items",
        "rating  4 of 4 items",
        "adding  4 of 4 items",
    ]


async def test_a_terminal_shows_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn in place, and its last state stays; the cursor comes back."""
    async with held() as (client, model):
        with terminal(monkeypatch) as shown:
            call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
            await shown.shows("0/3 0.0/s, 3 chunks in flight")
            model.released.set()
            await call
            screen = shown.close()

    (line,) = filter(None, screen.lines)
    assert line.startswith(f"evaluating {'━' * 20} 3/3 ")
    assert ", 6 tokens, in " in line
    assert screen.has_cursor
    assert has_ended()


async def test_calls_at_once_share_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each; that of one which ends stays above those of the others."""
    async with held() as (client, model):
        with terminal(monkeypatch) as shown:
            slow = asyncio.ensure_future(client.evaluate(words(7), **asked()))
            await shown.shows("0/7 0.0/s")
            cut = asyncio.ensure_future(client.evaluate(words(5), **asked()))
            await shown.shows("0/5 0.0/s")
            assert len(drawing()) == 1
            cut.cancel()
            await asyncio.wait([cut])
            model.released.set()
            await slow
            screen = shown.close()

    first, second = filter(None, screen.lines)
    assert "0/5 0.0/s, stopped after " in first
    assert "7/7 " in second
    assert has_ended()


async def test_one_call_after_the_other_has_the_terminal_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lines of earlier calls stay."""
    async with released() as client:
        with terminal(monkeypatch) as shown:
            for count in (1, 2, 3):
                await client.evaluate(words(count), **asked())
            screen = shown.close()

    assert [f"{n}/{n} " in line for n, line in enumerate(filter(None, screen.lines), 1)] == [
        True, True, True
    ]  # fmt: skip


async def test_log_records_and_prints_go_above_the_live_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole, in order, also by a handler made before; afterwards it has its own stream again."""
    with terminal(monkeypatch) as shown:
        handler = logging.StreamHandler()
        logger = logging.getLogger("tests.progress")
        logger.addHandler(handler)
        logger.propagate = False
        async with held() as (client, model):
            call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
            await shown.shows("0/3 0.0/s, 3 chunks in flight")
            logger.warning("the %s [/of] a log", "record")
            sys.stderr.write("a pri")
            sys.stderr.write("nted line\n")
            await asyncio.to_thread(logger.warning, "of another thread")
            model.released.set()
            await call
        logger.warning("afterwards")
        logger.removeHandler(handler)
        assert handler.stream is shown.file
        assert sys.stderr is shown.file
        screen = shown.close()

    first, second, third, bar, last = filter(None, screen.lines)
    assert first == "the record [/of] a log"
    assert second == "a printed line"
    assert third == "of another thread"
    assert bar.startswith("evaluating ━")
    assert "3/3" in bar
    assert last == "afterwards"


async def test_records_of_richs_own_handler_go_above_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It writes by a console and not by a stream."""
    from rich.console import Console
    from rich.logging import RichHandler

    with terminal(monkeypatch) as shown:
        console = Console(stderr=True)
        handler = RichHandler(console=console, show_path=False, show_time=False)
        logger = logging.getLogger("tests.progress")
        logger.addHandler(handler)
        logger.propagate = False
        async with held() as (client, model):
            call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
            await shown.shows("0/3 0.0/s, 3 chunks in flight")
            logger.warning("a record")
            model.released.set()
            await call
        logger.removeHandler(handler)
        assert handler.console is console
        screen = shown.close()

    record, bar = filter(None, screen.lines)
    assert record.split() == ["WARNING", "a", "record"]
    assert bar.startswith("evaluating ━")


async def test_what_is_printed_into_a_file_stays_out_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is left alone where it is no terminal."""
    async with held() as (client, model):
        with terminal(monkeypatch) as shown:
            call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
            await shown.shows("0/3 0.0/s")
            print("for the file")  # noqa: T201
            model.released.set()
            await call
            screen = shown.close()

    assert capsys.readouterr().out == "for the file\n"
    assert len([*filter(None, screen.lines)]) == 1


async def test_a_display_of_the_callers_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would draw over each other: ours is a plain line above it."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    async with released() as client:
        with terminal(monkeypatch) as shown:
            with Bars(console=Console(stderr=True), auto_refresh=False) as bars:
                bars.add_task("theirs", total=2)
                await client.evaluate(words(3), **asked())
            screen = shown.close()

    ours, theirs = filter(None, screen.lines)
    assert ours.startswith("evaluating  3 of 3 items, ")
    assert theirs.startswith("theirs ")


async def test_an_ascii_terminal_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses all else, which would end the display."""
    async with released() as client:
        with terminal(monkeypatch, encoding="ascii") as shown:
            await client.evaluate(words(3), **asked())
            screen = shown.close()

    (line,) = filter(None, screen.lines)
    assert line.startswith(f"evaluating {'-' * 20} 3/3 ")


@pytest.mark.parametrize(
    ("name", "value"), [("TERM", "dumb"), ("rich", None)], ids=["dumb", "without rich"]
)
async def test_a_terminal_that_cannot_be_drawn_on_gets_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """So does one where rich is not installed: no extra is needed to see how it goes."""
    async with released() as client:
        with terminal(monkeypatch) as shown:
            if value is None:
                monkeypatch.setitem(sys.modules, name, None)
            else:
                monkeypatch.setenv(name, value)
            await client.evaluate(words(3), **asked())
            screen = shown.close()

    assert "\x1b" not in shown.raw.decode()
    assert screen.lines[0].startswith("evaluating  3 of 3 items, ")


def close(shown: Any) -> None:
    shown.file.close()


def take_away(_: Any) -> None:
    sys.stderr = None  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("lose", [close, take_away])
@pytest.mark.parametrize("is_early", [True, False])
async def test_a_terminal_that_goes_takes_nothing_with_it(
    monkeypatch: pytest.MonkeyPatch, lose: Callable[[Any], None], is_early: bool
) -> None:
    """Before the call or in its midst: the evaluation is whole."""
    async with held() as (client, model):
        with terminal(monkeypatch) as shown:
            if is_early:
                lose(shown)
            call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
            if not is_early:
                await shown.shows("0/3 0.0/s")
                lose(shown)
            model.released.set()
            result = await call

    assert len(result.responses.succeeded) == 3
    assert has_ended()


async def test_a_pipe_that_nobody_reads_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line waits in its thread; the evaluation does not."""
    monkeypatch.setattr(display, "PATIENCE", 0.05)
    ours, its = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(its, fcntl.F_SETPIPE_SZ, 4_096)
    os.set_blocking(its, False)
    full = 0
    try:
        while True:
            full += os.write(its, b"x" * 1_024)
    except BlockingIOError:
        os.set_blocking(its, True)
    async with released() as client:
        with os.fdopen(its, "w") as file:
            monkeypatch.setattr(sys, "stderr", file)
            async with asyncio.timeout(60):
                result = await client.evaluate(words(3), **asked())
            (thread,) = drawing()
            with os.fdopen(ours, "rb") as pipe:
                assert pipe.read(full) == b"x" * full
                thread.join(30)
                monkeypatch.undo()
                assert pipe.readline().startswith(b"evaluating  3 of 3 items")

    assert not result.failed


async def test_an_error_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had stays, and says that it was stopped; the error is the one that was raised."""
    error = AuthenticationError("the key was revoked", status=401)

    def fail(_: Progress) -> None:
        raise error

    async with released() as client:
        with terminal(monkeypatch) as shown:
            with pytest.raises(AuthenticationError) as raised:
                await client.evaluate(words(4), **asked(), options=BatchOptions(on_progress=fail))
            screen = shown.close()

    assert raised.value is error
    assert isinstance(raised.value.partial, Evaluation)
    (line,) = filter(None, screen.lines)
    assert "/4 " in line
    assert ", stopped after " in line
    assert screen.has_cursor
    assert has_ended()


async def interrupt(_: asyncio.Task[Any]) -> None:
    raise KeyboardInterrupt


async def cancel(call: asyncio.Task[Any]) -> None:
    call.cancel()
    await call


@pytest.mark.parametrize("end", [cancel, interrupt])
def test_a_call_that_is_cut_short_ends_its_display(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[asyncio.Task[Any]], Awaitable[None]]
) -> None:
    """By a cancellation, or by a Ctrl-C that ends the event loop."""

    async def main() -> None:
        async with held() as (client, _):
            call = asyncio.ensure_future(client.evaluate(words(3), **asked()))
            # However it ends, somebody has seen it.
            call.add_done_callback(lambda one: one.cancelled() or one.exception())
            await shown.shows("0/3 0.0/s, 3 chunks in flight")
            await end(call)

    with terminal(monkeypatch) as shown:
        with pytest.raises((asyncio.CancelledError, KeyboardInterrupt)):
            asyncio.run(main())
        assert sys.stderr is shown.file
        screen = shown.close()

    (line,) = filter(None, screen.lines)
    assert "0/3 0.0/s, stopped after " in line
    assert screen.has_cursor
    assert has_ended()
