"""`ChunkOperation`: the base of the operations, which all answer to the engine's `Operation`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from elluminate_async.engine.call import Call
from elluminate_async.engine.chunks import AnswerSizes
from elluminate_async.engine.operation import Operation
from elluminate_async.engine.records import Header
from elluminate_async.engine.recovery import Recovery
from elluminate_async.operations.chunk_log import ChunkLog

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.allowance import Allowance
    from elluminate_async.engine.call import Upstream
    from elluminate_async.engine.chunks import Item
    from elluminate_async.engine.operation import Outcomes
    from elluminate_async.engine.records import UnfinishedChunk
    from elluminate_async.operations.context import CallContext

V = TypeVar("V")
R = TypeVar("R")


class ChunkOperation(Operation[V, R]):
    """One kind of work, set up for one call.

    Args:
        context: Options, budget and clocks of the call.
        name: ``"generate"``, ``"rate"`` or ``"add"``.
        total: Number of positions, where it is known beforehand.
        journal: Path of the call's journal.
        allowance: What lets items through, where not all may be sent.

    Attributes:
        log: Tells the batch's memory and the journal of each chunk.
        sizes: How large the answers turn out to be.
    """

    max_in_flight: ClassVar[int | None] = None
    """Chunks in flight at most, where that is less than the options allow."""

    def __init__(
        self,
        context: CallContext,
        name: str,
        *,
        total: int | None,
        journal: Path | None,
        allowance: Allowance[V] | None = None,
    ) -> None:
        self.context = context
        self.name = name
        self.sizes = AnswerSizes()
        self.log = ChunkLog(
            context, name, None if journal is None else Recovery[Any, Any](journal, self)
        )
        self._total = total
        self._journal = journal
        self._header: Header | None = None
        self._allowance = allowance

    @property
    def options(self) -> BatchOptions:
        """The options of the call, narrowed to what the service takes in one chunk."""
        return self.context.options

    def call(self, upstream: Upstream[V] | None = None) -> Call[V, R]:
        """The call as the engine runs it."""
        return Call(
            self,
            options=self.options,
            limits=self.context.connection.limits,
            deadline_at=self.context.policy.deadline_at,
            total=self._total,
            max_in_flight=self.max_in_flight,
            recovery=self.log.recovery,
            can_be_retried=True,
            memory=self.context.memory,
            upstream=upstream,
            sizes=self.sizes,
            allowance=self._allowance,
            share=self.context.policy.share,
            telemetry=self.context.connection.telemetry,
        )

    def renewed(self, options: BatchOptions | None) -> Call[V, R]:
        """The call that sends some of the items once more, under ``options`` or the same ones."""
        return replace(self._with(self.context.renewed(options)).call(), total=None)

    @abstractmethod
    def _with(self, context: CallContext) -> Self:
        """The same operation in another context."""

    @property
    @abstractmethod
    def arguments(self) -> Mapping[str, Any]:
        """The arguments by which a journal knows the call; plain JSON."""

    async def header(self) -> Header:
        """Which call a journal is of; asks the service, once a call."""
        if self._header is None:
            self._header = await self._ask_header()
        return self._header

    async def _ask_header(self) -> Header:
        connection, policy = self.context.connection, self.context.policy
        project = await connection.open(policy)
        server = await connection.server_id(policy)
        url = connection.transport.base_url
        return Header(url, project.id, self.name, self.arguments, self._total, server)

    def send(self, items: Sequence[Item[V]]) -> Outcomes[R]:
        """Send one chunk, follow it, and yield its outcomes."""
        return self._send(items, None)

    def resume(self, items: Sequence[Item[V]], unfinished: UnfinishedChunk) -> Outcomes[R]:
        """Go on with a chunk where it was left: follow its job, or repeat it under its key."""
        return self._send(items, unfinished)

    @abstractmethod
    def _send(self, items: Sequence[Item[V]], unfinished: UnfinishedChunk | None) -> Outcomes[R]:
        """Send a chunk, or go on with an ``unfinished`` one; yield its outcomes."""
