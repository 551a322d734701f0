"""The embedded server with a model that counts what it is asked, until the input ends.

python -m benchmarks.ray_jobs.service --latency 0.01
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.common.answers import answer, number_in, verdict
from benchmarks.ray_jobs.planted import generation_fails, rating_fails
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.server.llms.base import ModelAnswer, ModelError, ModelRequest, text_of


class CountingModel:
    """Answers, judges and fails as it is known to, and keeps a ledger of what that cost."""

    name = "counting"

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self.generations = Counter[int]()
        self.verdicts = Counter[int]()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Answer one request; a judge that fails gives no verdict, and so sells none."""
        number = number_in(text_of(request.messages[-1]))
        await asyncio.sleep(self._latency)
        if request.purpose == "generate":
            self.generations[number] += 1
            if generation_fails(number):
                raise ModelError("planted")
            return ModelAnswer(answer(number), input_tokens=20, output_tokens=180)
        if rating_fails(number):
            raise ModelError("planted")
        self.verdicts[number] += 1
        assert request.json_schema is not None
        keys = request.json_schema.schema["properties"]
        return ModelAnswer(json.dumps({key: {"verdict": verdict(number)} for key in keys}))

    async def aclose(self) -> None:
        """Hold nothing."""

    def told(self) -> dict[str, int]:
        """Calls so far, and those of them that were for what had been paid for."""
        return {
            "generations": self.generations.total(),
            "verdicts": self.verdicts.total(),
            "generated_twice": self.generations.total() - len(self.generations),
            "rated_twice": self.verdicts.total() - len(self.verdicts),
        }


async def main(latency: float, *, item_keys: bool) -> None:
    """Serve, and answer each line with the ledger; without item keys requests have none either."""
    with tempfile.TemporaryDirectory() as folder:
        model = CountingModel(latency)
        profile = WireProfile(idempotency_keys=item_keys, item_keys=item_keys)
        async with LocalServer(
            db=Path(folder) / "service.db", model=model, profile=profile
        ) as server:
            print(json.dumps({"url": server.url, "api_key": server.api_key}), flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps(model.told()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.01, help="seconds of an answer")
    parser.add_argument("--no-item-keys", action="store_true", help="nothing is known again")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.latency, item_keys=not arguments.no_item_keys))
