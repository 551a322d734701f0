"""An embedded server, its echoing model and a client, for evaluations."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elluminate_async import AsyncClient, BatchOptions

if TYPE_CHECKING:
    from elluminate_async.server import LocalServer, ModelRequest
    from tests.flow.bench import EchoModel, Recorder

PROMPT = "Say {{word}}"
CRITERIA = ["Does it say the word?", "Is it short?"]


@dataclass(slots=True)
class Scene:
    """The parts of one test."""

    server: LocalServer
    client: AsyncClient
    model: EchoModel
    recorder: Recorder


@asynccontextmanager
async def evaluating(
    db: Path | None = None, options: BatchOptions | None = None
) -> AsyncGenerator[Scene]:
    """A server, in memory or in that file, and a client of it."""
    # Here, as the programs that are killed need only the words of this module.
    from elluminate_async.server import LocalServer
    from tests.flow.bench import EchoModel, Recorder

    model, recorder = EchoModel(), Recorder()
    async with (
        LocalServer(model=model, wrap=recorder.wrap, db=db) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key, options=options) as client,
    ):
        yield Scene(server, client, model, recorder)


def judging(
    scene: Scene,
    is_yes: Callable[[str], bool],
    *,
    silent: Callable[[str], bool] = lambda prompt: False,
    on: str = CRITERIA[1],
) -> None:
    """Have the judge say YES where ``is_yes`` holds of what it is shown, else NO.

    Where ``silent`` holds of it too, there is no verdict on the criterion ``on``.
    """
    from elluminate_async.server import ModelAnswer
    from tests.flow.bench import EchoModel

    async def complete(request: ModelRequest) -> ModelAnswer:
        if request.purpose != "judge":
            return await EchoModel.complete(scene.model, request)
        prompt = " ".join(str(message["content"]) for message in request.messages)
        verdict = "YES" if is_yes(prompt) else "NO"
        if request.json_schema is None:
            return ModelAnswer(text="Hm." if silent(prompt) and on in prompt else verdict)
        asked = request.json_schema.schema["properties"]
        said = {
            key: {"verdict": verdict}
            for key, one in asked.items()
            if one["description"] != on or not silent(prompt)
        }
        return ModelAnswer(text=json.dumps(said))

    scene.model.complete = complete


def words(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows that differ."""
    return [{"word": f"word{number}", "number": number} for number in range(start, start + count)]


def generated(count: int) -> Iterator[dict[str, Any]]:
    """The same rows, one by one."""
    yield from words(count)
