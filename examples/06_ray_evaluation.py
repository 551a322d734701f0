"""A dataset of Ray is evaluated, killed in the midst, and evaluated again: nothing is paid twice.

Starts the embedded server in this process, so it needs no key and no network; with a base URL and a
key in the environment it takes that service instead. `job` is what you would run: its second run
goes on where the first was killed, as both have the same ``run`` and the same checkpoint; the size
of its tasks may be another one.
"""

# pyright: basic
# Ray and pyarrow leave much of their types open.

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from elluminate_async import AsyncClient, BatchOptions, Experiment, NotFoundError, RateLimit
from elluminate_async.server import LocalServer

ROWS = 600
RUN = "squares"


def job(folder: str, rows_per_task: int) -> None:
    """Read Parquet, evaluate, write Parquet."""
    import ray
    from ray.data.checkpoint import CheckpointConfig

    from elluminate_async.integrations.ray import evaluate

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20)
    ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=f"{folder}/checkpoint",
        delete_checkpoint_on_success=False,
    )
    ds = ray.data.read_parquet(f"{folder}/questions.parquet")
    ds = evaluate(
        ds,
        prompt="What is {{n}} squared?",
        criteria=["Is it right?"],
        run=RUN,
        key="id",
        rows_per_task=rows_per_task,
        # Of each worker; this is slow, so that there is a midst.
        options=BatchOptions(chunk_size=10, item_limit=RateLimit(200, 1.0)),
    )
    ds.write_parquet(f"{folder}/answers")


async def main(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"id": range(ROWS), "n": [n * 7 for n in range(ROWS)]}),
        folder / "questions.parquet",
    )
    async with AsyncExitStack() as stack:
        if "ELLUMINATE_API_KEY" not in os.environ:
            server = await stack.enter_async_context(LocalServer())
            os.environ["ELLUMINATE_BASE_URL"] = server.url
            os.environ["ELLUMINATE_API_KEY"] = server.api_key
        client = await stack.enter_async_context(AsyncClient())

        first = begin(folder, 50)
        while first.poll() is None:
            if await count(client) >= ROWS // 4:
                break
            await asyncio.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        await asyncio.to_thread(first.wait)
        print("killed midway:", ROWS // 4 <= await count(client) < ROWS)

        code = await asyncio.to_thread(begin(folder, 35).wait)
        assert code == 0, (folder / "log").read_text()
        rows = pq.read_table(folder / "answers").to_pylist()
        print("rows, each once:", len(rows) == len({row["id"] for row in rows}) == ROWS)
        print("failed:", sum(row["rating_error_code"] is not None for row in rows))
        print("paid for:", await count(client), "responses to", ROWS, "rows")


def begin(folder: Path, rows_per_task: int) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, "job", str(folder), str(rows_per_task)],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=log,
            stderr=log,
        )


async def count(client: AsyncClient) -> int:
    """Responses that the service has made for this run."""
    try:
        experiment: Experiment = await client.experiments.get(RUN)
    except NotFoundError:
        return 0
    return len(await client.responses.list(experiment=experiment))


if sys.argv[1:2] == ["job"]:
    job(sys.argv[2], int(sys.argv[3]))
else:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
