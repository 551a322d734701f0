"""`Runner`: one evaluation, from its saved run to its document, whatever ends it."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from elluminate_async import (
    ConfigurationError,
    DeadlineError,
    ElluminateError,
    Evaluation,
    EvaluationRecord,
    InputError,
    JournalError,
    LLMConfig,
    NotFoundError,
    RateLimitError,
    RatingMode,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.cli.documents import (
    GateDocument,
    RunDocument,
    UsageDocument,
    configurations_of,
)
from elluminate_async.cli.exits import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MISUSE,
    EXIT_NOT_MEASURED,
    EXIT_PASSED,
)
from elluminate_async.cli.plan import columns_of, prompt_of
from elluminate_async.cli.service import OpenService, opened
from elluminate_async.cli.settings import criteria_of, options_of
from elluminate_async.cli.talk import offline_note

if TYPE_CHECKING:
    from elluminate_async import AsyncClient
    from elluminate_async.cli.data import Row
    from elluminate_async.cli.interrupts import Interrupts
    from elluminate_async.cli.runs import RunFile, SavedRun
    from elluminate_async.cli.spec import ModelSpec, Spec
    from elluminate_async.cli.talk import Talk

DRAIN_SECONDS: Final = 30.0
"""Seconds that what is in flight has to end after the first Ctrl-C."""

OUTAGES: Final = (
    DeadlineError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
"""Errors that say nothing of how the command was used: the same one may work later."""

_EXIT: Final = {
    "passed": EXIT_PASSED,
    "failed": EXIT_FAILED,
    "not measured": EXIT_NOT_MEASURED,
}


class Runner:
    """Evaluates a run, and keeps what comes of it.

    Args:
        run: Where it is kept.
        file: What it is now; kept once the service has taken it so.
        rows: Its rows.
        resumes: Whether it was begun before; then what failed is sent again.
        talk: Tells people.

    Attributes:
        document: What is known so far; that of an interrupted run until there is more.
        evaluation: The results, once there are any.
    """

    def __init__(
        self, run: SavedRun, file: RunFile, rows: Sequence[Row], *, resumes: bool, talk: Talk
    ) -> None:
        self._run = run
        self._file = file
        self._rows = rows
        self._resumes = resumes
        self._talk = talk
        self._started = time.monotonic()
        self.evaluation: Evaluation | None = None
        self.document = RunDocument(
            status="interrupted",
            exit_code=EXIT_INTERRUPTED,
            name=run.name,
            folder=str(run.folder),
            is_offline=self._file.where.has_offline_judge,
            note=offline_note(
                self._file.where,
                names_models=any(not isinstance(one, str) for one in self._file.spec.models),
                has_answers=self._file.spec.responses is not None,
            ),
            records=len(rows) * max(1, len(self._file.spec.models)) * self._file.spec.epochs,
            resume=f"elluminate-async run {shlex.quote(run.name)} --resume",
        )

    async def run(self, interrupts: Interrupts) -> int:
        """Evaluate; the exit code is that of the document, which is complete then."""
        try:
            options = options_of(self._file)
            async with opened(self._file.where, options) as service:
                self._note(service=service.client.base_url)
                self._talk.service(service.told, self._file.where)
                await self._evaluate(service, interrupts)
                interrupts.finishes()
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            interrupts.caught()
        except OUTAGES as error:
            self._note(status="not measured", exit_code=EXIT_NOT_MEASURED, error=str(error))
        except JournalError as error:
            text = f"{error}; to begin anew leave out --resume"
            self._note(status="error", exit_code=EXIT_MISUSE, error=text, resume=None)
        except ElluminateError as error:
            self._note(status="error", exit_code=EXIT_MISUSE, error=str(error))
            partial: Iterable[EvaluationRecord] = error.partial or ()
            if isinstance(error, InputError) and not any(one.response for one in partial):
                # Nothing was begun, and the same again would be refused again.
                self._note(resume=None)
        if self.document.status == "interrupted":
            self._note(exit_code=interrupts.exit_code)
        if self.evaluation is None and self.document.status != "error":
            # To be gone on with as it is now; what was refused is not kept.
            self._run.write(self._file)
        self._note(seconds=round(time.monotonic() - self._started, 3))
        return self.document.exit_code

    def _note(self, **values: Any) -> None:
        self.document = self.document.model_copy(update=values)

    async def _evaluate(self, service: OpenService, interrupts: Interrupts) -> None:
        try:
            evaluation = await self._evaluation(service.client)
        except asyncio.CancelledError as error:
            if not interrupts.count:
                raise
            interrupts.caught()
            self._tell_unfinished(getattr(error, "partial", None))
            await self._drain(service, interrupts)
            return
        self.evaluation = evaluation
        # At once: whatever comes now, it has been paid for.
        self._run.keep(evaluation, self._file)
        self._tell(evaluation)

    async def _drain(self, service: OpenService, interrupts: Interrupts) -> None:
        """Let what the embedded server has in flight end; another service goes on by itself."""
        if service.server is None:
            return
        self._talk.say(
            "Stopping: no model is asked any more, and calls in flight have "
            f"{DRAIN_SECONDS:.0f} s to end. Ctrl-C again stops at once."
        )
        await interrupts.within(DRAIN_SECONDS, service.server.drain())

    async def _evaluation(self, client: AsyncClient) -> Evaluation:
        spec = self._file.spec
        configs = await _configurations(client, spec, is_own=self._file.where.is_embedded)
        evaluation = await client.evaluate(
            self._rows,
            prompt=prompt_of(spec, columns_of(self._rows)),
            criteria=criteria_of(spec),
            llm_configs=configs or None,
            responses=spec.responses,
            name=self._file.title,
            epochs=spec.epochs,
            rating_mode=RatingMode(spec.rating_mode),
            run=spec.run,
            item_keys=spec.key,
            journal=self._run.journal,
            max_cost=spec.max_cost,
            progress=not self._talk.is_quiet,
        )
        if self._resumes and evaluation.failed:
            self._talk.say(f"Sending {len(evaluation.failed)} failed items again.")
            await evaluation.retry_failed()
        return evaluation

    def _way_on(self, evaluation: Evaluation) -> str | None:
        """The command that goes on; None where there is nothing left."""
        if not evaluation.failed or self.document.resume is None:
            return None
        is_cut = self._file.spec.max_cost is not None and any(
            error.code == "not_sent" for error in evaluation.failed.values()
        )
        return f"{self.document.resume} --max-cost MORE" if is_cut else self.document.resume

    def _tell_unfinished(self, partial: Evaluation | None) -> None:
        """Note what had come when it was interrupted; what had not is unfinished."""
        failed = [] if partial is None else [*partial.failed.values()]
        cut = sum(error.is_passing or error.code == "outcome_unknown" for error in failed)
        self._note(
            failed=len(failed) - cut,
            unfinished=self.document.records if partial is None else cut,
            usage=None if partial is None else _usage(partial),
            cost=None if partial is None else partial.cost,
        )

    def _tell(self, evaluation: Evaluation) -> None:
        wanted = self._file.spec.gate
        gate = evaluation.gate(**wanted.model_dump())
        codes = Counter(error.code for error in evaluation.failed.values())
        self._note(
            status=gate.status,
            exit_code=_EXIT[gate.status],
            records=len(evaluation),
            failed=len(evaluation.failed),
            failures=dict(codes.most_common()),
            configurations=configurations_of(evaluation.summary()),
            gate=GateDocument(status=gate.status, reasons=gate.reasons, **wanted.model_dump()),
            usage=_usage(evaluation),
            cost=evaluation.cost,
            resume=self._way_on(evaluation),
        )


def _usage(evaluation: Evaluation) -> UsageDocument:
    usage = evaluation.usage
    return UsageDocument(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        responses=usage.responses,
        unknown=usage.unknown,
    )


async def _configurations(client: AsyncClient, spec: Spec, *, is_own: bool) -> list[LLMConfig]:
    """The configurations of the spec's models, made where they do not exist.

    A bare name is that of one that exists; the embedded server, which nobody else set up, makes
    one that asks its endpoint for the model of that name.
    """
    found: list[LLMConfig] = []
    for model in spec.models:
        if not isinstance(model, str):
            found.append(await _configuration(client, model))
            continue
        try:
            found.append(await client.llm_configs.get(model))
        except NotFoundError:
            if not is_own:
                raise
            found.append((await client.llm_configs.get_or_create(model, model))[0])
    return found


async def _configuration(client: AsyncClient, model: ModelSpec) -> LLMConfig:
    fields = model.model_dump(exclude_none=True, exclude={"name", "llm_model_name", "api_key_env"})
    if (base_url := fields.pop("base_url", None)) is not None:
        fields["llm_base_url"] = base_url
    wanted = {"llm_model_name": model.llm_model_name or model.name, **fields}
    secret: dict[str, Any] = {}
    if model.api_key_env is not None:
        if not (key := os.environ.get(model.api_key_env)):
            raise ConfigurationError(
                f"the model {model.name!r} wants its key in the variable {model.api_key_env}, "
                "which is not set"
            )
        secret["api_key"] = key
    config, is_new = await client.llm_configs.get_or_create(model.name, **wanted, **secret)
    differing = [name for name, value in wanted.items() if getattr(config, name) != value]
    if not is_new and differing:
        raise ConfigurationError(
            f"the configuration {model.name!r} is there with another {differing[0]}: "
            f"{getattr(config, differing[0])!r}. Give the model another name"
        )
    return config
