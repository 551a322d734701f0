"""Ray: datasets are generated from, rated and evaluated by workers, which may share their limits.

::

    from elluminate_async.integrations.ray import RayShare, generate, rate

    options = BatchOptions(rate_limit=RateLimit(20, 1.0), share=RayShare("prod-key"))
    ds = ray.data.read_parquet("questions.parquet")
    ds = generate(ds, experiment="nightly", run="2026-11-27", key="id", options=options)
    ds = rate(ds, run="2026-11-27", options=options)
    ds.write_parquet("answers")

Each function takes a dataset and gives another one, which is worked on when it is read or written.
Needs the extra ``ray``.
"""

from elluminate_async.integrations.ray.datasets import evaluate, generate, rate
from elluminate_async.integrations.ray.share import RayShare

__all__ = ["RayShare", "evaluate", "generate", "rate"]
