"""`ResponseMatcher`: the rows that the chunks of one call ask for, and which ones those are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import anyio

from elluminate_async.engine.chunks import Item
from elluminate_async.engine.records import UnfinishedChunk
from elluminate_async.errors import ItemError
from elluminate_async.operations.chunk_log import ChunkLog
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.deadline import holding
from elluminate_async.operations.echoes import Echo
from elluminate_async.operations.epochs import Epochs
from elluminate_async.operations.listing import read_one
from elluminate_async.operations.listing_matcher import ListingMatcher
from elluminate_async.operations.matching import ExpectedRow, NaturalKey, match_result
from elluminate_async.operations.pins import pins_of_call
from elluminate_async.operations.response_items import ResponsePlan, ResponseSpec
from elluminate_async.operations.response_rows import (
    made_from_other,
    outcome_of,
    readable_rows,
    rows_one_by_one,
    text_of,
)
from elluminate_async.operations.run_keys import honours_items
from elluminate_async.schemas.experiments import ConfiguredExperiment, Experiment
from elluminate_async.schemas.jobs import JobStatus
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.version import Capability

E = TypeVar("E", bound=ConfiguredExperiment)


class ResponseMatcher:
    """Gives the items of one call their keys, and finds the rows that answer to them.

    The service either sends a job's results with its status, or they are found in the listing
    of the experiment.

    Args:
        context: Of the call.
        plan: What all items share.
        operation: ``"generate"``, or ``"add"`` for responses that were made elsewhere.
        sized: Whether all inputs are in memory.
        log: Of the call.

    Attributes:
        is_keyed: Whether the service is told the keys of the call's items, and so gives each the
            row of its key, made by this call or before.
    """

    def __init__(
        self,
        context: CallContext,
        plan: ResponsePlan,
        operation: str,
        *,
        sized: bool,
        log: ChunkLog,
    ) -> None:
        self._context = context
        self._plan = plan
        self._operation = operation
        self._sized = sized
        self._log = log
        self._listing: ListingMatcher | None = None
        self._epochs: Epochs | None = None
        self._experiment: ConfiguredExperiment | None = None
        self._reading = anyio.Lock()
        self.is_keyed = False

    @property
    def _interchangeable(self) -> bool:
        """Whether rows of the same variables are as good as each other."""
        return self._operation == "generate"

    @property
    def can_reconcile(self) -> bool:
        """Whether the service's rows can tell what became of a sending."""
        return self._listing is not None

    async def prepare(
        self, items: Sequence[Item[ResponseSpec]], unfinished: UnfinishedChunk | None = None
    ) -> list[ExpectedRow]:
        """The keys that the rows of these items will have, or were asked for ``unfinished``."""
        by_position = await self._context.connection.has(
            Capability.RESULTS_WITH_STATUS, self._context.policy
        )
        if self._epochs is None:
            self.is_keyed = await honours_items(self._context, self._plan.run)
            self._epochs = Epochs(call_wide=self._sized)
            if not by_position:
                self._listing = ListingMatcher(
                    self._context,
                    self._plan.experiment_id,
                    interchangeable=self._interchangeable,
                    log=self._log,
                )
        if self._listing is None and self._log.recovery is None and unfinished is None:
            # They come as the result of their own job.
            template, keys = self._plan.template_id, self._numbered(items)
            return [_of_own_job(i, k, template) for i, k in zip(items, keys, strict=True)]
        # Before they are numbered: numbers that nobody asks for would stay reserved.
        echoes = self._echoes_of(items, await self.config_id(), unfinished)
        if unfinished is not None:
            whole = self.expected_of(unfinished)
            if self._listing is not None:
                await self._listing.begin([w.key.template_variables_id for w in whole])
            wanted = [
                ExpectedRow(w.position, w.key, echoes[w.position])
                for w in whole
                if w.position in echoes
            ]
        else:
            if self._listing is not None:
                ids = [item.value.variables_id for item in items]
                keys = await self._listing.before_sending(ids, self._plan.epoch)
            else:
                keys = self._numbered(items)
            wanted = list(map(ExpectedRow, echoes, keys, echoes.values()))
        if self._listing is not None:
            self._listing.ask(wanted)
        return wanted

    def _numbered(self, items: Sequence[Item[ResponseSpec]]) -> list[NaturalKey]:
        assert self._epochs is not None, "not prepared"
        ids = [item.value.variables_id for item in items]
        if self.is_keyed:
            # A count would change with what else is in the call, and a key's epoch may not.
            keys = [item.value.key for item in items]
            return [NaturalKey(id, k.epoch) for id, k in zip(ids, keys, strict=True) if k]
        return list(map(NaturalKey, ids, self._epochs.of(items)))

    def _echoes_of(
        self,
        items: Sequence[Item[ResponseSpec]],
        config_id: int | None,
        unfinished: UnfinishedChunk | None,
    ) -> dict[int, Echo]:
        """The echoes that the rows of these items must match, by position."""
        return {item.position: self.echo(item.value, config_id, unfinished) for item in items}

    def echo(
        self, spec: ResponseSpec, config_id: int | None, unfinished: UnfinishedChunk | None
    ) -> Echo:
        """The echo that the row of an item must match."""
        stored = bool(spec.messages)
        if stored:
            made_by = spec.metadata and spec.metadata.llm_model_config
            config_id = made_by.id if made_by else None
        return Echo(
            config_id=config_id,
            template_id=self._plan.template_id,
            variables=None if isinstance(spec.variables, int) else spec.variables,
            text=text_of(spec) if stored else None,
            filled=unfinished is not None,
        )

    async def config_id(self) -> int | None:
        """The configuration that rows to generate will name; None when it is not known."""
        plan = self._plan
        if self._operation != "generate" or plan.llm_config_id is not None:
            return plan.llm_config_id
        if self._experiment is None and self._listing is not None:
            async with holding(self._reading, self._context.policy):
                if self._experiment is None:
                    # Not what the caller has of it, which may be old.
                    self._experiment = await self._read(ConfiguredExperiment)
        config = self._experiment.llm_config if self._experiment is not None else None
        return config.id if config is not None else None

    async def _read(self, kind: type[E]) -> E:
        path = ("experiments", self._plan.experiment_id)
        return await read_one(self._context.connection, kind, *path, policy=self._context.policy)

    async def pins(self) -> dict[str, dict[str, Any]]:
        """The objects of the call as the service has them now, as hashes for the journal."""
        self._experiment = experiment = await self._read(Experiment)
        generates = self._operation == "generate"
        return await pins_of_call(self._context, self._plan, experiment, generates=generates)

    def expected_of(self, chunk: UnfinishedChunk) -> list[ExpectedRow]:
        """`expected_rows` of a chunk that a journal remembers."""
        with self._log.reading():
            return expected_rows(chunk)

    async def one_by_one(
        self, wanted: Sequence[ExpectedRow], items: Sequence[Item[ResponseSpec]]
    ) -> dict[int, PromptResponse | ItemError]:
        """Position to outcome, of a job that has ended with a result over the cap.

        Its rows are asked for one by one. Of several of one key the latest is taken, as the
        others are of earlier calls.
        """
        if self._listing is not None:
            return self._outcomes(await self._listing.find(wanted))
        if self._experiment is None and self._operation == "generate":
            self._experiment = await self._read(ConfiguredExperiment)
        config_id = await self.config_id()
        echoes = {item.position: self.echo(item.value, config_id, None) for item in items}
        told_apart = [ExpectedRow(w.position, w.key, echoes[w.position]) for w in wanted]
        found = await rows_one_by_one(self._context, self._plan.experiment_id, told_apart)
        return self._outcomes(found)

    async def outcomes(
        self, wanted: Sequence[ExpectedRow], status: JobStatus
    ) -> dict[int, PromptResponse | ItemError]:
        """Position to outcome, for the rows of a job that has ended.

        A row in a position's place that was made from other values is that position's error.

        Args:
            wanted: All positions of the job's request, or those of them that are left where
                the listing tells the rows.
            status: Its terminal document.
        """
        if status.result is not None:
            rows = readable_rows(status.result)
            found = match_result(wanted, rows, interchangeable=self._interchangeable)
            return self._checked(wanted, found)
        if self._listing is not None:
            return self._outcomes(await self._listing.find(wanted))
        return {}

    def _checked(
        self, wanted: Sequence[ExpectedRow], found: dict[int, PromptResponse]
    ) -> dict[int, PromptResponse | ItemError]:
        """The outcomes of rows that stand in the places of these positions."""
        entries = {entry.position: entry for entry in wanted}
        foreign = {p: row for p, row in found.items() if not entries[p].fits(row)}
        if not foreign:
            return self._outcomes(found)
        changed = (p for p, row in foreign.items() if entries[p].echo.is_other_input(row))
        return self._outcomes({p: row for p, row in found.items() if p not in foreign}) | {
            p: made_from_other(p, foreign[p], self._operation) for p in changed
        }

    def release(self, wanted: Sequence[ExpectedRow]) -> None:
        """No row will come for these: they were not sent, or refused."""
        if self._listing is not None:
            self._listing.release(wanted)

    async def reconcile(
        self, wanted: Sequence[ExpectedRow], seconds: float
    ) -> dict[int, PromptResponse | ItemError]:
        """Position to outcome, for the rows that come to light within the settling time."""
        assert self._listing is not None
        return self._outcomes(await self._listing.reconcile(wanted, seconds))

    async def final_reconcile(self) -> tuple[dict[int, PromptResponse | ItemError], Sequence[int]]:
        """After all chunks: what came late, and the ids of surplus rows."""
        if self._listing is None or not self._listing.had_doubt:
            return {}, ()
        found, surplus = await self._listing.final_reconcile()
        return self._outcomes(found), surplus

    def _outcomes(self, found: dict[int, PromptResponse]) -> dict[int, PromptResponse | ItemError]:
        return {
            position: row
            if row.error is None and row.messages
            else outcome_of(position, row, self._operation, self._blotted)
            for position, row in found.items()
        }

    def _blotted(self, text: str) -> str:
        return self._context.connection.blotted(text)


def _of_own_job(item: Item[ResponseSpec], key: NaturalKey, template_id: int | None) -> ExpectedRow:
    """Of a row that comes as the result of its own job: only its input is to be checked."""
    given = item.value.variables
    variables = None if isinstance(given, int) else given
    return ExpectedRow(item.position, key, Echo(template_id=template_id, variables=variables))


def expected_rows(chunk: UnfinishedChunk) -> list[ExpectedRow]:
    """All positions of an earlier run's chunk, in the order of its request."""
    pairs = zip(chunk.positions, chunk.facts["keys"], strict=True)
    return [ExpectedRow(position, NaturalKey(*key)) for position, key in pairs]
