"""The key goes to its origin in a header, and nowhere else: a canary is looked for everywhere."""

from __future__ import annotations

import asyncio
import io
import pickle
import traceback
from pathlib import Path

import pytest
from starlette.types import Send

from elluminate_async import AsyncClient, BatchOptions, ElluminateError, Progress
from elluminate_async.config import Settings
from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import EchoModel, Recorder, Seen, Stage, answer, set_stage
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


CANARY = "canary-4f9d0c-key"


def everything_about(error: BaseException) -> str:
    """Its texts and those of its chain, with the locals of every frame, as trackers report."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr(error) + str(vars(error))


async def failures(stage: Stage) -> list[BaseException]:
    """One error of each kind that a client lets out."""
    found: list[BaseException] = []
    (row,) = await stage.variables(["a"])

    async def fault(status: int, body: bytes = b"<html>", hang: bool = False) -> None:
        async def before(seen: Seen, send: Send) -> bool:
            if hang:
                await asyncio.sleep(30)
            await answer(send, status, body, {"retry-after": "9999"})
            return True

        stage.recorder.before = before
        try:
            async with asyncio.timeout(0.3):
                await stage.client.responses.generate(
                    template_variables=row, experiment=stage.experiment
                )
        except (ElluminateError, TimeoutError) as error:
            found.append(error)
            if error.__context__ is not None:
                found.append(error.__context__)

    for status in (200, 302, 400, 401, 403, 404, 413, 422, 500, 503):
        await fault(status)
    await fault(200, hang=True)
    await fault(429)
    stage.recorder.before = None
    return found


@pytest.mark.row(101)
async def test_the_key_is_in_no_sink(log: io.StringIO, tmp_path: Path, fired: Fired) -> None:
    """Logs at DEBUG, reprs, pickles, exceptions with locals, journals: no byte of it."""
    journal = tmp_path / "journal"
    model, recorder = EchoModel(), Recorder()
    steps: list[Progress] = []
    options = BatchOptions(chunk_size=5, on_progress=steps.append)
    async with (
        LocalServer(model=model, wrap=recorder.wrap, api_key=CANARY) as server,
        AsyncClient(base_url=server.url, api_key=CANARY, options=options) as client,
    ):
        stage = await set_stage(client, server, model, recorder)
        model.failing = lambda prompt: prompt == "say v3"
        responses = await stage.generate([f"v{i}" for i in range(12)], journal=journal)
        ratings = await client.ratings.rate_many(responses)
        errors = await failures(stage)
        seen = [*recorder.requests]
        shown = [
            repr(client),
            repr(vars(client)),
            repr(vars(client._connection)),
            repr(vars(client._connection.transport)),
            repr(client.options),
            repr(steps),
            repr(responses.outcomes),
            repr(ratings.outcomes),
            str(pickle.dumps(responses)),
            str(pickle.dumps(ratings)),
            *(str(error.to_dict()) for error in responses.failed.values()),
            *(everything_about(error) for error in errors),
            *(str(pickle.dumps(e)) for e in errors if isinstance(e, ElluminateError)),
        ]
        kept = server.db.read_bytes() + journal.read_bytes()
        sessions = client._connection.transport._session._sessions.values()
        defaults = [dict(session.headers) for session in sessions]

    assert len(errors) >= 12
    assert all(request.headers["x-api-key"] == CANARY for request in seen)
    assert not [request.path for request in seen if CANARY in request.path]
    for text in [log.getvalue(), *shown]:
        assert CANARY not in text
        assert CANARY[:12] not in text
    assert CANARY.encode() not in kept
    # Added to each request, so that nothing else of the session sends it.
    assert defaults == [{}]
    fired(times=len(seen) + len(shown))
    assert log.getvalue()


def test_settings_hide_their_secrets() -> None:
    """Neither `repr` nor `str` shows them, and a pickle is refused."""
    settings = Settings.resolve(api_key=CANARY, base_url="http://127.0.0.1:1", environment={})

    assert CANARY not in repr(settings) + str(settings) + f"{settings.api_key}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(settings)
