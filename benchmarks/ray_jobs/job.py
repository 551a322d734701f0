"""A job of Ray Data: read Parquet, generate or rate, write Parquet with a checkpoint.

python -m benchmarks.ray_jobs.job '{"operation": "generate", "input": ..., ...}'

Prints one line of JSON at its end.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any
from unittest.mock import patch

from ray.data.checkpoint import CheckpointConfig

from benchmarks.common import ray_cluster
from benchmarks.ray_jobs import libraries
from benchmarks.ray_jobs.heart import Heart
from elluminate_async.integrations.ray import datasets, evaluate, generate, rate
from elluminate_async.schemas.ratings import RatingMode

ray = libraries.ray()

PROMPT, QUESTION = "About {{word}}", "Is it right?"


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Do the job of one task, or the rest of it."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if task["operation"] == "heartbeat":
        return consumed_slowly(task)
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=task["checkpoint"], delete_checkpoint_on_success=False
    )
    dataset_of(task).write_parquet(task["output"])
    return {}


def consumed_slowly(task: dict[str, Any]) -> dict[str, Any]:
    """Hold the workers back, and tell how late their clients' clocks were."""
    late: list[float] = []
    own: list[float] = []
    with patch.object(datasets, "Worker", Heart):
        ds = dataset_of(task)
    for batch in ds.iter_batches(batch_size=task["rows_per_task"], prefetch_batches=1):
        late.append(float(batch["late_ms"].max()))
        own.append(float(batch["own_ms"].max()))
        time.sleep(task["seconds"])
    return {"late_ms": late, "own_ms": own}


def dataset_of(task: dict[str, Any]) -> Any:
    """What a task works on, and how."""
    ds = ray.data.read_parquet(task["input"])
    shared: dict[str, Any] = {
        "run": task["run"],
        "rows_per_task": task["rows_per_task"],
        # One beside the server on two cores: with more it is their scheduler that is measured.
        "workers": 1 if task["operation"] == "heartbeat" else 2,
    }
    match task["operation"]:
        case "generate" | "heartbeat":
            ds = generate(ds, experiment=task["experiment"], key="id", **shared)
        case "rate":
            ds = rate(ds, rating_mode=RatingMode.FAST, **shared)
        case _:
            asked: dict[str, Any] = {"prompt": PROMPT, "criteria": [QUESTION], "key": "id"}
            ds = evaluate(ds, rating_mode=RatingMode.FAST, **asked, **shared)
    return ds


def main() -> None:
    """Run what the argument says."""
    # Its sockets have paths that must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray_cluster.begin(folder, store_mib=600)
        told = run(json.loads(sys.argv[1]))
        ray.shutdown()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
