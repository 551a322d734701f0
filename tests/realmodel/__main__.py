"""Does the guide's flow run with a real small model, however it may be asked for JSON?

    make realmodel

Generates and rates 20 rows, FAST and DETAILED, three times: by ``json_schema``, by
``json_object`` alone and by text alone, and prints a JSON line for each. The model has 135
million parameters, so its verdicts mean nothing; that there is one for each row and criterion
is what is asked. Ends with status 1 where one is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import time
from dataclasses import astuple, dataclass, field

from elluminate_async import AsyncClient, Batch, PromptResponse, Rating, RatingMode
from elluminate_async.cli.flow import COLLECTION_NAME, TEMPLATE, TEMPLATE_NAME
from elluminate_async.cli.rows import shipped_rows
from elluminate_async.server import LocalServer, OpenAIModel
from tests.realmodel.endpoint import proxy, real_model

ROUTES = ("json_schema", "json_object", "text")
ROWS = 20
CRITERIA = ["Does the answer show a piece of code?", "Is the answer free of contradictions?"]
_ANSWER_TOKENS = 40


@dataclass
class Run:
    """One route's figures."""

    route: str
    rows: int
    generated: int = 0
    rated: dict[str, int] = field(default_factory=dict[str, int])
    yes: dict[str, int] = field(default_factory=dict[str, int])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    malformed: int = 0
    repaired: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list[str])

    @property
    def is_whole(self) -> bool:
        """Whether every row was generated and rated in every mode."""
        return self.generated == self.rows and all(
            self.rated.get(mode.value) == self.rows for mode in RatingMode
        )


async def run_route(target: str, route: str, rows: int) -> Run:
    """The flow over one route."""
    run = Run(route, rows)
    async with proxy(target, route) as endpoint:
        model = OpenAIModel("smollm2", base_url=endpoint.url)
        async with (
            # One at a time: what prompts have in common is then read once.
            LocalServer(model=model, max_model_calls=1) as server,
            AsyncClient(base_url=server.url, api_key=server.api_key) as client,
        ):
            await _flow(client, run)
            service = server._service
            assert service is not None
            figures = service.models.figures
        await model.aclose()
        run.calls, _, run.malformed, run.repaired = astuple(figures)
        run.refused = endpoint.refused
    return run


async def _flow(client: AsyncClient, run: Run) -> None:
    template, _ = await client.prompt_templates.get_or_create(TEMPLATE, name=TEMPLATE_NAME)
    await client.criteria.add_many(CRITERIA, prompt_template=template)
    collection, _ = await client.collections.get_or_create(COLLECTION_NAME)
    variables = await client.template_variables.add_many(
        shipped_rows()[: run.rows], collection=collection
    )
    experiment = await client.experiments.create(
        "A real model",
        prompt_template=template,
        collection=collection,
        generation_params={"max_tokens": _ANSWER_TOKENS},
    )
    started = time.perf_counter()
    responses = await client.responses.generate_many(
        prompt_template=template, template_variables=variables, experiment=experiment
    )
    run.seconds["generate"] = round(time.perf_counter() - started, 1)
    run.generated = len(responses.succeeded)
    _count_tokens(run, responses)
    _note(run, responses)
    for mode in RatingMode:
        started = time.perf_counter()
        ratings = await client.ratings.rate_many(responses, rating_mode=mode)
        run.seconds[mode.value] = round(time.perf_counter() - started, 1)
        given = [one for one in ratings.succeeded.values() if len(one) == len(CRITERIA)]
        run.rated[mode.value] = sum(_is_reasoned(one, mode) for one in given)
        run.yes[mode.value] = sum(rating.rating == "YES" for one in given for rating in one)
        _note(run, ratings)


def _is_reasoned(ratings: list[Rating], mode: RatingMode) -> bool:
    return all(bool(one.reasoning) is (mode is RatingMode.DETAILED) for one in ratings)


def _count_tokens(run: Run, responses: Batch[PromptResponse]) -> None:
    for response in responses.succeeded.values():
        if (known := response.generation_metadata) is not None:
            run.input_tokens += known.input_tokens or 0
            run.output_tokens += known.output_tokens or 0


def _note(run: Run, batch: Batch[PromptResponse] | Batch[list[Rating]]) -> None:
    run.failures += [str(error) for error in batch.failed.values()][:3]


async def _main(rows: int, routes: list[str]) -> bool:
    """Each route with a model of its own, as many at once as there are cores for their threads."""
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(route: str) -> bool:
        async with cores:
            with real_model() as target:
                run = await run_route(target, route, rows)
        print(json.dumps(vars(run)), flush=True)  # noqa: T201
        return run.is_whole

    started = time.perf_counter()
    whole = all(await asyncio.gather(*map(one, routes)))
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    models, own = [round(used.ru_utime + used.ru_stime, 1) for used in spent]
    total = {"seconds": round(time.perf_counter() - started, 1), "whole": whole}
    cpu = {"models_cpu_seconds": models, "own_cpu_seconds": own}
    print(json.dumps({**total, **cpu}), flush=True)  # noqa: T201
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--route", action="append", choices=ROUTES)
    chosen = parser.parse_args()
    raise SystemExit(not asyncio.run(_main(chosen.rows, chosen.route or list(ROUTES))))
