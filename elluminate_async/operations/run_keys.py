"""The keys that a run gives its items and chunks: the same ones in every process.

Example: the run "nightly-42" is begun by one worker, which is killed, and the same rows are
sent by another, in other chunks::

    item key     of (run, the caller's key, epoch)          in both processes the same: made once
    chunk key    of (run, operation, item keys, body)       the same where the chunks are too

Item keys go over the wire where the service honours them, and there nothing is made twice: each
chunk is a job of its own, under an idempotency key that is random as without a run. So who leaves
ends its own job only, and what is asked for again is looked at again. Where the service honours
idempotency keys alone these are the chunks' keys, and equal chunks are one job.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from elluminate_async.engine.item_errors import is_revoked
from elluminate_async.engine.memory import is_over
from elluminate_async.errors import (
    APIError,
    ElluminateError,
    ItemError,
    OutcomeUnknownError,
    RejectedError,
)
from elluminate_async.errors.arguments import run_name
from elluminate_async.operations.connection import new_key
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext
    from elluminate_async.operations.starting import StartedJob

logger = logging.getLogger("elluminate_async")

KeyText: TypeAlias = str | tuple[int, int]
"""The caller's own key; or of a row its id, and which of its occurrences in the call it is."""


class ItemKey(NamedTuple):
    """An item of a run, told from all others of it.

    Attributes:
        text: See `KeyText`.
        epoch: The epoch that the item has where keys are honoured.
        attempt: How often a retry has asked for it anew, as it had failed.
    """

    text: KeyText
    epoch: int
    attempt: int = 0


def _digest(*parts: bytes) -> str:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        made.update(part)
    return made.hexdigest()


def _encoded(*parts: object) -> bytes:
    # All but ASCII is escaped, so that halves of characters do no harm.
    return json.dumps(parts, separators=(",", ":")).encode()


@dataclass(slots=True)
class Run:
    """The run that a call belongs to.

    Attributes:
        name: As its caller knows it.
    """

    name: str
    _used: dict[str, int] = field(default_factory=dict[str, int])
    _is_told: bool = False

    @property
    def wire(self) -> str:
        """The name as the service is told it."""
        return _digest(_encoded(self.name))

    def item_key(self, key: ItemKey) -> str:
        """The key as the service is told it: what a retry makes anew takes it over."""
        return _digest(_encoded(self.name, key.text, key.epoch))

    def chunk_key(self, operation: str, items: Sequence[str | int], body: bytes) -> str:
        """The idempotency key of a chunk.

        Of the same chunk that this call sends once more it is another one, as then its job is to
        be a new one; a repetition of one sending has the key of that, and does not ask here.
        """
        # The head ends where its list ends, so that no body can be taken for a part of it.
        key = _digest(_encoded(self.name, operation, *items), body)
        times = self._used[key] = self._used.get(key, 0) + 1
        return key if times == 1 else _digest(_encoded(key, times))

    def tell_unknown(self) -> None:
        """Log, once for the run of a call, that the service knows of no runs."""
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "the service does not advertise %s: what another process of the run %r has had "
                "made is made again, but for chunks that are equal under idempotency keys",
                Capability.ITEM_KEYS,
                self.name,
            )


def checked_run(run: object) -> Run | None:
    """The run of that name, None for None.

    Raises:
        InputError: It is no name.
    """
    return None if run is None else Run(run_name(run))


def key_of_chunk(
    context: CallContext,
    run: Run | None,
    operation: str,
    items: Sequence[str | int],
    body: bytes,
    *,
    is_keyed: bool,
    anew: bool,
) -> str:
    """The idempotency key of a chunk that is sent for the first time.

    A random one without a run; where the service knows the chunk's items by their keys
    (``is_keyed``), as a job that is shared would be ended by whoever leaves it first, and would
    answer for ever what it answered once; where what the run had begun under its key is of no use
    any more, so that it is sent ``anew``; and where the service honours no keys, and sees none
    that could be taken for another.
    """
    is_honoured = context.connection.offers(Capability.IDEMPOTENCY_KEYS)
    if run is None or is_keyed or anew or not is_honoured:
        return new_key()
    return run.chunk_key(operation, items, body)


def watches_job(job: StartedJob, run: Run | None, *, is_keyed: bool) -> bool:
    """Whether a job is not this call's to end: another process began it, and may wait for it."""
    return job.is_known and run is not None and not is_keyed


async def honours_items(context: CallContext, run: Run | None) -> bool:
    """Whether the items of ``run`` are known to the service by keys; not so without a run.

    It honours these, and tells results in the order of the items.
    """
    if run is None:
        return False
    connection, policy = context.connection, context.policy
    by_position = await connection.has(Capability.RESULTS_WITH_STATUS, policy)
    is_honoured = by_position and connection.offers(Capability.ITEM_KEYS)
    if not is_honoured:
        run.tell_unknown()
    return is_honoured


def may_ask_anew(problem: ElluminateError | None, *, is_keyed: bool) -> bool:
    """Whether the chunk of a run may be sent under another key, after ``problem``.

    Where the chunk's key is the run's, its job may be another process's, and be cancelled by that;
    what it has not done then nobody has paid for. Of one that is gone, or has ended without a
    word, only the keys of items tell.
    """
    if not is_keyed:
        return is_revoked(problem)
    return isinstance(problem, OutcomeUnknownError) and is_over(problem)


def conflicts_in(error: APIError, count: int) -> list[int]:
    """Which of a refused chunk's ``count`` items have keys that name others; empty if none."""
    if not isinstance(error, RejectedError) or error.status != _UNPROCESSABLE:
        return []
    found: object = (error.body or {}).get("key_conflicts")
    if not isinstance(found, list):
        return []
    indices = {one for one in cast("list[object]", found) if type(one) is int and 0 <= one < count}
    return sorted(indices)


_UNPROCESSABLE: Final = 422


def may_be_sealed(error: ElluminateError) -> bool:
    """Whether a chunk may be refused for its idempotency key alone.

    Another process may have ended the chunk under it: see `starting.check_halves`.
    """
    return isinstance(error, RejectedError) and error.status == _UNPROCESSABLE


class KeyConflictError(Exception):
    """The service has other items under the keys of some of a chunk's.

    Attributes:
        which: Of those the positions, or the ids of the responses to rate.
        error: The refusal.
    """

    def __init__(self, which: Container[int], error: APIError) -> None:
        super().__init__(str(error))
        self.which = which
        self.error = error

    def error_of(self, position: int, operation: str) -> ItemError:
        """The error of an item."""
        what = (
            "the run has rated this response in another rating_mode: pass that, or another run"
            if operation == "rate"
            else "its key is that of another item of the run: of other variables, or of these "
            "before an edit, or of another epoch, configuration or text. Give it a key of its own, "
            "or another run"
        )
        error = self.error
        return ItemError(
            f"{what} ({error.detail})",
            position=position,
            code="key_conflict",
            operation=operation,
            status=error.status,
            request_id=error.request_id,
            attempts=error.attempts,
            cause=type(error).__name__,
        )
