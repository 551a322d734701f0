"""A small service: one answer, many as they come, and many in the background. See README.md."""

import os
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response

from elluminate_async import AsyncClient, BatchOptions, Collection, Experiment
from elluminate_async.integrations import fastapi as service
from elluminate_async.integrations.fastapi import BackgroundStatus, Client, Job, JobName

# A person waits for 20 s at most, and for 5 s where the service is away; a job for a day.
OPTIONS = BatchOptions(deadline=20, retry_for=3, attempt_timeout=5)
PATIENT = OPTIONS.replace(deadline=86_400, retry_for=3_600, attempt_timeout=120)
MADE: list[tuple[Collection, Experiment]] = []


async def place(client: AsyncClient) -> tuple[Collection, Experiment]:
    """Where rows and responses belong at the service: made once, later found again."""
    if not MADE:
        template, _ = await client.prompt_templates.get_or_create("{{question}}", name="Service")
        rows, _ = await client.collections.get_or_create("Service")
        experiment, _ = await client.experiments.get_or_create(
            "Service", prompt_template=template, collection=rows
        )
        MADE.append((rows, experiment))
    return MADE[0]


async def answer_all(client: AsyncClient, job: Job) -> list[str | None]:
    collection, experiment = await place(client)
    rows = [{"question": question} for question in job.request]
    added = await client.template_variables.add_many(
        rows, collection=collection, journal=job.directory / "rows", options=PATIENT
    )
    journal = job.directory / "answers"
    answers = await client.responses.generate_many(
        template_variables=added, experiment=experiment,
        journal=journal, progress=job.note, options=PATIENT,
    )  # fmt: skip
    return [None if n in answers.failed else answers[n].response_str for n in range(len(rows))]


batches = service.Background(os.environ.get("STATE_DIRECTORY", "state"), answer_all)
app = FastAPI(
    lifespan=service.lifespan(options=OPTIONS, background=[batches]),
    exception_handlers=service.problem_handlers(),
    responses=service.problem_responses(),
)
app.add_api_route("/ready", service.ready)
app.add_api_route("/healthz", service.alive)


@app.post("/answers")
async def answer(request: Request, question: str, client: Client) -> str:
    async def ask() -> str:
        collection, experiment = await place(client)
        row = await client.template_variables.add_to_collection({"question": question}, collection)
        made = client.responses.generate(template_variables=row, experiment=experiment)
        return (await made).response_str

    return await service.run_until_disconnect(request, ask())


@app.get("/stream")
async def stream(client: Client, q: Annotated[list[str], Query()]) -> Response:
    rows = [{"question": question} for question in q]
    records = client.stream_evaluate(rows, prompt="{{question}}", criteria=["Is it an answer?"])
    return service.ndjson(records)


@app.post("/batches/{name}", status_code=202)
async def start(name: JobName, questions: list[str]) -> BackgroundStatus:
    return await batches.start(name, questions)


@app.get("/batches/{name}")
async def look(name: JobName) -> BackgroundStatus:
    if (status := await batches.status(name)) is None:
        raise HTTPException(404)
    return status
