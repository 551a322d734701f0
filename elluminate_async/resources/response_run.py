"""What the chunks of one call of `ResponsesResource` share while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio

from elluminate_async.engine.call import ChunkRefusedError
from elluminate_async.engine.chunks import AnswerSizes, Item
from elluminate_async.engine.records import OpenChunk
from elluminate_async.errors import (
    AnswerTooLargeError,
    ElluminateError,
    ItemError,
    NotFoundError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RejectedError,
)
from elluminate_async.resources.batches import BatchSetting
from elluminate_async.resources.connection import holding
from elluminate_async.resources.echoes import Echo, hash_of_row
from elluminate_async.resources.jobs import (
    Denials,
    accepted_work,
    follow_job,
    job_failure,
)
from elluminate_async.resources.journaling import ChunkLog, Intent, Sending, not_own, not_there
from elluminate_async.resources.matching import (
    ENDED_SETTLE,
    ListingMatcher,
    NaturalKey,
    Wanted,
    match_result,
)
from elluminate_async.resources.pages import read_one
from elluminate_async.resources.parts import list_responses
from elluminate_async.resources.pins import pins_of_call
from elluminate_async.resources.response_plan import Epochs, ResponsePlan, Spec
from elluminate_async.resources.response_rows import (
    made_from_other,
    outcome_of,
    readable_rows,
    rows_one_by_one,
    text_of,
)
from elluminate_async.resources.starting import start_job
from elluminate_async.schemas.experiments import ConfiguredExperiment, Experiment
from elluminate_async.schemas.jobs import JobStatus, ResponseJobStatus
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.version import Capability

logger = logging.getLogger("elluminate_async")

_BATCHES = ("responses", "batches")

E = TypeVar("E", bound=ConfiguredExperiment)


class ResponseRun:
    """The plan, the epochs and the way to match of one call."""

    def __init__(
        self, operation: str, setting: BatchSetting, plan: ResponsePlan, *, sized: bool
    ) -> None:
        self.operation = operation
        self.setting = setting
        self.plan = plan
        self.log = ChunkLog(setting, operation)
        self.sizes = AnswerSizes()
        self._sized = sized
        self._listing: ListingMatcher | None = None
        self._epochs: Epochs | None = None
        self._denials = Denials()
        self._experiment: ConfiguredExperiment | None = None
        self._reading = anyio.Lock()

    @property
    def _interchangeable(self) -> bool:
        """Whether rows of the same variables are as good as each other."""
        return self.operation == "generate"

    @property
    def can_settle(self) -> bool:
        """Whether the service's rows can tell what became of a sending."""
        return self._listing is not None

    @property
    def max_sendings(self) -> int:
        """How often a chunk is posted: again only what has no row after settling."""
        replays = self.can_settle and self.setting.options.replay_after_settle
        return self.setting.policy.max_attempts if replays else 1

    async def prepare(
        self, items: Sequence[Item[Spec]], earlier: OpenChunk | None = None
    ) -> list[Wanted]:
        """The keys that the rows of these items will have, or were asked for ``earlier``."""
        by_position = await self.setting.connection.has(
            Capability.RESULTS_WITH_STATUS, self.setting.policy
        )
        if self._epochs is None:
            self._epochs = Epochs(call_wide=self._sized)
            if not by_position:
                self._listing = ListingMatcher(
                    self.setting,
                    self.plan.experiment_id,
                    interchangeable=self._interchangeable,
                    log=self.log,
                )
        if self._listing is None and self.log.recovery is None and earlier is None:
            # They come as the result of their own job.
            template, keys = self.plan.template_id, self._numbered(items)
            return [_of_own_job(i, k, template) for i, k in zip(items, keys, strict=True)]
        # Before they are numbered: numbers that nobody asks for would stay reserved.
        echoes = self._echoes_of(items, await self._config_id(), earlier)
        if earlier is not None:
            if self._listing is not None:
                await self._listing.begin()
            whole = self._whole_of(earlier)
            wanted = [
                Wanted(w.position, w.key, echoes[w.position]) for w in whole if w.position in echoes
            ]
        else:
            if self._listing is not None:
                keys = await self._listing.before_sending([i.value.variables_id for i in items])
            else:
                keys = self._numbered(items)
            wanted = list(map(Wanted, echoes, keys, echoes.values()))
        if self._listing is not None:
            self._listing.ask(wanted)
        return wanted

    def _numbered(self, items: Sequence[Item[Spec]]) -> list[NaturalKey]:
        assert self._epochs is not None, "not prepared"
        ids = [item.value.variables_id for item in items]
        return list(map(NaturalKey, ids, self._epochs.of(items)))

    def _echoes_of(
        self, items: Sequence[Item[Spec]], config_id: int | None, earlier: OpenChunk | None
    ) -> dict[int, Echo]:
        """What the rows of these items must say, by position."""
        return {item.position: self._echo(item.value, config_id, earlier) for item in items}

    def _echo(self, spec: Spec, config_id: int | None, earlier: OpenChunk | None) -> Echo:
        stored = bool(spec.messages)
        if stored:
            made_by = spec.metadata and spec.metadata.llm_model_config
            config_id = made_by.id if made_by else None
        return Echo(
            config_id=config_id,
            template_id=self.plan.template_id,
            variables=None if isinstance(spec.variables, int) else spec.variables,
            text=text_of(spec) if stored else None,
            filled=earlier is not None,
        )

    async def _config_id(self) -> int | None:
        """The configuration that rows to generate will name; None when it is not known."""
        plan = self.plan
        if self.operation != "generate" or plan.llm_config_id is not None:
            return plan.llm_config_id
        if self._experiment is None and self._listing is not None:
            async with holding(self._reading, self.setting.policy):
                if self._experiment is None:
                    # Not what the caller has of it, which may be old.
                    self._experiment = await self._read(ConfiguredExperiment)
        config = self._experiment.llm_config if self._experiment is not None else None
        return config.id if config is not None else None

    async def _read(self, kind: type[E]) -> E:
        path = ("experiments", self.plan.experiment_id)
        return await read_one(self.setting.connection, kind, *path, policy=self.setting.policy)

    async def pins(self) -> dict[str, dict[str, Any]]:
        """What must be as it was when a journal was begun, as the service has it now."""
        self._experiment = experiment = await self._read(Experiment)
        generates = self.operation == "generate"
        return await pins_of_call(self.setting, self.plan, experiment, generates=generates)

    def _whole_of(self, chunk: OpenChunk) -> list[Wanted]:
        with self.log.reading():
            return whole_of(chunk)

    def intend(self, wanted: Sequence[Wanted], body: bytes) -> Intent:
        """How to send a chunk that was never sent."""
        facts = {"keys": [entry.key for entry in wanted]}
        return self.log.intend([entry.position for entry in wanted], body, facts)

    def body(self, wanted: Sequence[Wanted], items: Sequence[Item[Spec]]) -> bytes:
        """The request for those of ``items`` that are wanted."""
        specs = {item.position: item.value for item in items}
        return self.plan.batch_body((specs[entry.position], entry.key.epoch) for entry in wanted)

    async def post(self, body: bytes, sending: Sending, items: int) -> str:
        """Send a chunk of so many items; the id of its job.

        Raises:
            ChunkRefusedError: The service refuses it as a whole.
            NotFoundError: The experiment is not there.
            PermissionDeniedError: The key may not do this.
        """
        connection, policy = self.setting.connection, self.setting.policy
        try:
            job_id = await start_job(
                connection,
                *_BATCHES,
                body=body,
                empty=self.plan.batch_body(()),
                sending=sending,
                operation=self.operation,
                policy=policy,
                # No model is called for responses that are uploaded.
                items=items if self.operation == "generate" else 0,
            )
        except (RejectedError, PayloadTooLargeError) as error:
            raise ChunkRefusedError(error) from None
        except PermissionDeniedError as error:
            self._denials.refuse(error)
        except NotFoundError as error:
            # Raises itself when the experiment is what was not found.
            await connection.call("GET", "experiments", self.plan.experiment_id, policy=policy)
            raise ChunkRefusedError(error) from None
        self._denials.taken()
        with accepted_work():
            self.log.accepted(sending.key, job_id)
        return job_id

    async def follow(
        self,
        job_id: str,
        wanted: Sequence[Wanted],
        items: Sequence[Item[Spec]],
        earlier: OpenChunk | None,
    ) -> tuple[dict[int, PromptResponse | ItemError], ElluminateError | None]:
        """Outcomes by position once a job has ended, and what is wrong with the others."""
        try:
            status = await follow_job(
                self.setting.connection,
                ResponseJobStatus,
                *_BATCHES,
                job_id,
                operation=self.operation,
                policy=self.setting.policy,
                measured=partial(self.sizes.learn, items),
            )
        except AnswerTooLargeError as error:
            logger.debug("the result of a job is read row by row: %s", error)
            self.sizes.learn_too_large(items)
            return await self._by_keys(wanted, items), None
        asked = wanted
        if earlier is not None and status.result:
            own = {entry.position: entry for entry in wanted}
            asked = [own.get(entry.position, entry) for entry in self._whole_of(earlier)]
        left = {entry.position for entry in wanted}
        outcomes = await self.outcomes(asked, status)
        found = {position: outcome for position, outcome in outcomes.items() if position in left}
        return found, job_failure(job_id, status.status, status.error_msg)

    async def _by_keys(
        self, wanted: Sequence[Wanted], items: Sequence[Item[Spec]]
    ) -> dict[int, PromptResponse | ItemError]:
        """Position to outcome, of a job that has ended with a result over the cap.

        Its rows are asked for one by one. Of several of one key the latest is taken, as the
        others are of earlier calls.
        """
        if self._listing is not None:
            return self._outcomes(await self._listing.find(wanted))
        if self._experiment is None and self.operation == "generate":
            self._experiment = await self._read(ConfiguredExperiment)
        config_id = await self._config_id()
        echoes = {item.position: self._echo(item.value, config_id, None) for item in items}
        told_apart = [Wanted(w.position, w.key, echoes[w.position]) for w in wanted]
        found = await rows_one_by_one(self.setting, self.plan.experiment_id, told_apart)
        return self._outcomes(found)

    async def outcomes(
        self, wanted: Sequence[Wanted], status: JobStatus
    ) -> dict[int, PromptResponse | ItemError]:
        """Position to outcome, for the rows of a job that has ended.

        A row in a position's place that was made from other values is that position's error.

        Args:
            wanted: All positions of the job's request, or those of them that are left where
                the listing tells the rows.
            status: Its terminal document.
        """
        if status.result is not None:
            rows, unreadable = readable_rows(status.result)
            found = match_result(
                wanted, rows, in_order=not unreadable, interchangeable=self._interchangeable
            )
            return self._checked(wanted, found)
        if self._listing is not None:
            return self._outcomes(await self._listing.find(wanted))
        return {}

    def _checked(
        self, wanted: Sequence[Wanted], found: dict[int, PromptResponse]
    ) -> dict[int, PromptResponse | ItemError]:
        """The outcomes of rows that stand in the places of these positions."""
        entries = {entry.position: entry for entry in wanted}
        foreign = {p: row for p, row in found.items() if not entries[p].fits(row)}
        if not foreign:
            return self._outcomes(found)
        changed = (p for p, row in foreign.items() if entries[p].echo.is_other_input(row))
        return self._outcomes({p: row for p, row in found.items() if p not in foreign}) | {
            p: made_from_other(p, foreign[p], self.operation) for p in changed
        }

    @property
    def is_late(self) -> bool:
        """Whether the deadline of the call has passed."""
        return time.monotonic() >= self.setting.policy.deadline_at

    def release(self, wanted: Sequence[Wanted]) -> None:
        """No row will come for these: they were not sent, or refused."""
        if self._listing is not None:
            self._listing.release(wanted)

    def settling_after(self, problem: ElluminateError | None) -> float:
        """Seconds to look for the rows of a sending that ended with ``problem``."""
        settle = self.setting.options.settle
        may_send_again = problem is None and self.max_sendings > 1
        if may_send_again or isinstance(problem, OutcomeUnknownError):
            return settle
        # The job has ended, so its rows should be there: they may only be late.
        return min(settle, ENDED_SETTLE)

    async def settle(
        self, wanted: Sequence[Wanted], seconds: float
    ) -> dict[int, PromptResponse | ItemError]:
        """Position to outcome, for the rows that come to light within the settling time."""
        assert self._listing is not None
        return self._outcomes(await self._listing.settle(wanted, seconds))

    async def last_look(self) -> tuple[dict[int, PromptResponse | ItemError], Sequence[int]]:
        """After all chunks: what came late, and the ids of surplus rows."""
        if self._listing is None or not self._listing.had_doubt:
            return {}, ()
        found, surplus = await self._listing.last_look()
        return self._outcomes(found), surplus

    @staticmethod
    def reference(_spec: Spec, row: PromptResponse) -> list[Any]:
        """Where the service keeps a row, and what it says of its input."""
        return [row.id, hash_of_row(row)]

    async def fetch(
        self, items: Sequence[Item[Spec]], done: Mapping[int, Any]
    ) -> AsyncIterator[tuple[int, PromptResponse | ItemError]]:
        """The rows of these references, by position, as they are at the service now."""
        with self.log.reading():
            ids = {position: int(id) for position, (id, _) in done.items()}
            said = {position: hash for position, (_, hash) in done.items()}
        config_id = await self._config_id()
        found = {
            row.id: row
            for row in await list_responses(
                self.setting.connection,
                {
                    "experiment_id": self.plan.experiment_id,
                    "response_ids": list(ids.values()),
                },
                policy=self.setting.policy,
            )
        }
        for item in items:
            row = found.get(ids[item.position])
            if row is None:
                yield item.position, not_there(item.position, self.operation, "row")
            elif hash_of_row(row) != said[item.position] or not self._echo(
                item.value, config_id, None
            ).fits(row):
                yield item.position, not_own(item.position, self.operation, f"row {row.id}")
            else:
                yield item.position, outcome_of(item.position, row, self.operation, self._blotted)

    def no_row(self) -> OutcomeUnknownError:
        """The job has ended and its row is not there, or could not be looked for."""
        return OutcomeUnknownError(
            "the job has ended, and the service does not show a row that is of this item",
            position=0,
            operation=self.operation,
            code="no_result",
        )

    def _blotted(self, text: str) -> str:
        return self.setting.connection.blotted(text)

    def _outcomes(self, found: dict[int, PromptResponse]) -> dict[int, PromptResponse | ItemError]:
        return {
            position: row
            if row.error is None and row.messages
            else outcome_of(position, row, self.operation, self._blotted)
            for position, row in found.items()
        }


def _of_own_job(item: Item[Spec], key: NaturalKey, template_id: int | None) -> Wanted:
    """Of a row that comes as the result of its own job: only its input is to be checked."""
    given = item.value.variables
    variables = None if isinstance(given, int) else given
    return Wanted(item.position, key, Echo(template_id=template_id, variables=variables))


def whole_of(chunk: OpenChunk) -> list[Wanted]:
    """All positions of an earlier run's chunk, in the order of its request."""
    pairs = zip(chunk.positions, chunk.facts["keys"], strict=True)
    return [Wanted(position, NaturalKey(*key)) for position, key in pairs]
