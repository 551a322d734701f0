"""Jobs: the service's work on one chunk, called tasks and batches on the wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from elluminate_async.schemas.base import ListOf, RowsOf, WireModel
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import PromptResponse


class JobStatusName(StrEnum):
    """Every status a service may report; the last five are terminal."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"
    REJECTED = "REJECTED"
    TIMEOUT = "TIMEOUT"


TERMINAL = frozenset(
    {
        JobStatusName.SUCCESS,
        JobStatusName.FAILURE,
        JobStatusName.REVOKED,
        JobStatusName.REJECTED,
        JobStatusName.TIMEOUT,
    }
)
"""After one of these a job's status never changes."""


REVOKED: Final = "revoked"
"""Code of an item that was not done when its job was ended."""


class JobProgress(WireModel):
    """Items of a chunk that are done; sent by the embedded server."""

    processed: int
    total: int
    failed: int = 0


class ItemFailure(WireModel):
    """Why one item of a chunk has no full result; sent by the embedded server.

    Attributes:
        index: Position in the request's list, from 0.
        code: ``rating_failed``, ``generation_failed`` or ``no_result``; `REVOKED` where its job was
            ended before it was done.
    """

    index: int
    code: str = Field(repr=False)
    message: str = Field(repr=False)


class JobStatus(WireModel):
    """State of a batch job; the poll's answer and the stream's event are the same document.

    Attributes:
        status: A `JobStatusName`, or a word this version does not know.
        error_msg: Why it failed, or what of it failed.
        progress: Absent on the hosted service.
        result: With a terminal status, where the service sends results: one element per
            item of the request, in its order. A response for each item of a response
            batch, the list of its ratings for each item of a rating batch.
        result_omitted: Whether there are results, and too large for this document.
        item_failures: Items without a full result, where the service says so.
    """

    # Hidden are words of the service's: a frame's locals are reported with their `repr`.
    status: JobStatusName | str = Field(union_mode="left_to_right", repr=False)
    error_msg: str | None = Field(default=None, repr=False)
    progress: JobProgress | None = None
    result: RowsOf[Any] | None = Field(default=None, repr=False)
    result_omitted: bool = False
    item_failures: RowsOf[ItemFailure] = Field(default=[], repr=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.status in TERMINAL


class ResponseJobStatus(JobStatus):
    """`JobStatus` of a response batch; with ``list[Any]`` where an element is no response."""

    # A document never changes, so that a narrower type does no harm.
    result: RowsOf[PromptResponse | None] | RowsOf[Any] | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, union_mode="left_to_right", repr=False
    )


class RatingJobStatus(JobStatus):
    """`JobStatus` of a rating batch; with ``list[Any]`` where an element is no ratings.

    Attributes:
        prompt_response_ids: The request's, with the results, where the service says them.
    """

    prompt_response_ids: RowsOf[int] | None = None
    result: RowsOf[ListOf[Rating] | None] | RowsOf[Any] | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, union_mode="left_to_right", repr=False
    )
