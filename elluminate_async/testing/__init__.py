"""Help for tests of programs that use this client: servers that fail as asked, and a clock.

Everything listens on loopback only, and needs no extra. A test of a batch under faults::

    async with (
        ScriptedService(keys=False, faults=[FaultPlan(seed=7, share=0.3)]) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key) as client,
    ):
        batch = await client.responses.generate_many(...)
    report = check_batch(batch, inputs, service.ledger)
    assert report.clean, report

* `ScriptedService` stands in for the service; its `Ledger` notes what it really did, and a
  `ServerLimit` is one that the client was not told of.
* `Fault` and `FaultPlan` make its exchanges go wrong, and count how often they did.
* `check_batch` and `check_ratings` hold a client's outcomes against inputs and ledger: what
  is lost, swapped, foreign or duplicated is named by position.
* `FaultProxy` stands between client and any service and spoils the connection itself, by the
  toxics of `elluminate_async.testing.proxy`.
* `RawServer` answers with exact bytes, for what no HTTP server would send.
* `VIRTUAL_TIME` and `run_virtually` let hours of waiting cost nothing.

Fixtures for pytest are in `elluminate_async.testing.pytest_plugin`; a test suite opts in by
``pytest_plugins = ["elluminate_async.testing.pytest_plugin"]``.
"""

from __future__ import annotations

from elluminate_async.testing.clock import VIRTUAL_TIME, run_virtually
from elluminate_async.testing.exchange import Exchange, ServerLimit
from elluminate_async.testing.faults import KINDS, Fault, FaultPlan
from elluminate_async.testing.ledger import Ledger, Report, check_batch, check_ratings
from elluminate_async.testing.proxy import FaultProxy
from elluminate_async.testing.raw import RawServer
from elluminate_async.testing.service import Behaviour, ScriptedService

__all__ = [
    "KINDS",
    "VIRTUAL_TIME",
    "Behaviour",
    "Exchange",
    "Fault",
    "FaultPlan",
    "FaultProxy",
    "Ledger",
    "RawServer",
    "Report",
    "ScriptedService",
    "ServerLimit",
    "check_batch",
    "check_ratings",
    "run_virtually",
]
