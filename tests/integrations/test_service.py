"""The example's service: a process of its own, an embedded server behind it, over real sockets."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from examples.service import app as example
from tests.integrations.scene import ROOT, serving
from tests.soak import service as soak


async def test_it_does_what_its_routes_say(tmp_path: Path) -> None:
    """One answer, a stream of several, a batch in the background, and how it is."""
    async with serving(tmp_path) as service:
        assert await service.get("/healthz") == (200, {"status": "alive"})
        assert await service.get("/ready") == (200, {"status": "ready"})

        asked = await service.ask("Why?")
        assert (asked.status, json.loads(asked.body)) == (200, "echo Why?")

        async with service.session.get("/stream", params=[("q", "One?"), ("q", "Two?")]) as told:
            lines = [json.loads(line) for line in (await told.text()).splitlines()]
        values = {line["position"]: line["value"]["response"] for line in lines[:-1]}
        assert values == {0: "echo One?", 1: "echo Two?"}
        assert lines[-1] == {"done": True, "succeeded": 2, "failed": 0}

        assert (await service.get("/batches/none"))[0] == 404
        async with service.session.post("/batches/nightly", json=["A?", "B?"]) as accepted:
            assert accepted.status == 202
        async with service.session.post("/batches/nightly", json=["C?"]) as taken:
            assert taken.status == 409
            assert taken.content_type == "application/problem+json"
        async with service.session.post("/batches/..%5Cup", json=["C?"]) as refused:
            assert refused.status in (404, 422)
        status = await soak.ended(service, "nightly")
        assert status["result"] == ["echo A?", "echo B?"]


async def test_killed_in_the_midst_of_a_batch_it_does_each_row_once(tmp_path: Path) -> None:
    """As the model counts; `make soak` does it 20 times."""
    figures = await soak.kills(tmp_path, 1, rows=100)

    assert figures["kept"], figures


async def test_callers_who_hang_up_leave_nothing(tmp_path: Path) -> None:
    """Neither tasks nor descriptors nor memory; `make soak` has 1,000 of them."""
    figures = await soak.hang_ups(tmp_path, 100, seconds=1.0)

    assert figures["kept"], figures


@pytest.mark.parametrize(("seconds", "silent"), [(6.0, False), (14.0, True)])
async def test_an_outage_is_told_and_over_when_it_is(
    tmp_path: Path, seconds: float, silent: bool
) -> None:
    """503 with a time while it lasts; no restart, and no word of what is behind."""
    figures = await soak.outage(tmp_path, seconds, silent=silent)

    assert set(figures["answered"]) <= {200, 503}, figures
    assert figures["answered"][503], figures
    assert figures["told_when"], figures


def test_it_is_small() -> None:
    """60 lines of code, the imports counted and what explains them not."""
    text = (ROOT / "examples/service/app.py").read_text()
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    code = [
        line
        for number, line in enumerate(text.splitlines(), 1)
        if number not in told and line.strip() and not line.lstrip().startswith("#")
    ]

    assert len(code) <= 60
    assert example.app.title
