"""The embedded server with a model whose answers and delays are known, until the input ends.

python -m benchmarks.common.service --latency 0.2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common.answers import MODEL_CALLS, answer, latencies, number_in, verdict
from elluminate_async.server import LocalServer, OfflineModel, WireProfile
from elluminate_async.server.llms.base import ModelAnswer, ModelRequest, text_of

_MOST_ITEMS = 20_000


class KnownModel:
    """Answers, and judges, as `answers` says."""

    name = "known"

    def __init__(self, latency: float) -> None:
        self._mean = latency
        self.draw(0)

    def draw(self, number: int) -> None:
        """Take other latencies of the same kind."""
        self._latency = {
            phase: latencies(_MOST_ITEMS, self._mean, phase, number)
            for phase in ("generate", "judge")
        }

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Answer one request."""
        number = number_in(text_of(request.messages[-1]))
        if seconds := self._latency[request.purpose][number]:
            await asyncio.sleep(seconds)
        if request.purpose == "generate":
            return ModelAnswer(answer(number), input_tokens=20, output_tokens=180)
        assert request.json_schema is not None
        keys = request.json_schema.schema["properties"]
        return ModelAnswer(json.dumps({key: {"verdict": verdict(number)} for key in keys}))

    async def aclose(self) -> None:
        """Hold nothing."""


async def main(latency: float, calls: int, *, hosted: bool, offline: bool) -> None:
    """Serve; a line may name a draw of latencies, and is answered with the CPU used so far."""
    with tempfile.TemporaryDirectory() as folder:
        # A file that the caller names is kept durably: each commit reaches the disk.
        db = Path(folder) / "service.db"
        model = KnownModel(latency)
        profile = WireProfile.hosted() if hosted else None
        async with LocalServer(
            db=db,
            model=OfflineModel() if offline else model,
            profile=profile,
            max_model_calls=calls,
        ) as server:
            print(json.dumps({"url": server.url, "api_key": server.api_key}), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                if draw := json.loads(line).get("draw"):
                    model.draw(draw)
                print(json.dumps({"cpu_s": time.process_time()}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.0, help="mean seconds of an answer")
    parser.add_argument("--hosted", action="store_true", help="no keys, no results with a status")
    parser.add_argument("--offline", action="store_true", help="the stand-in for a model instead")
    parser.add_argument("--calls", type=int, default=MODEL_CALLS, help="of the model, at once")
    arguments = parser.parse_args()
    asyncio.run(
        main(
            arguments.latency,
            arguments.calls,
            hosted=arguments.hosted,
            offline=arguments.offline,
        )
    )
