"""`ChunkCounts`: the chunks of an evaluation, counted as it would make them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elluminate_async.engine.chunks import Chunk, ChunkBuilder, Item
from elluminate_async.operations.answer_sizes import answer_bytes
from elluminate_async.operations.rate import MAX_CHUNK
from elluminate_async.operations.response_items import BODY_BYTES

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions


class ChunkCounts:
    """Counts the chunks of one configuration.

    Args:
        options: Of the steps.
        rows_at_once: Rows of one upload at most.
        epochs: Responses to each row.
        template_bytes: About the size of the template's messages.
        is_list: Whether the rows are a list: then responses to rows of different uploads share
            no chunk, and the counts are exact.

    Attributes:
        upload: Chunks of rows, which all configurations share.
        generate, rate: Chunks of responses and of ratings.
    """

    def __init__(
        self,
        options: BatchOptions,
        rows_at_once: int,
        epochs: int,
        template_bytes: int,
        *,
        is_list: bool,
    ) -> None:
        self.upload = self.generate = self.rate = 0
        self._epochs = epochs
        self._template_bytes = template_bytes
        self._is_list = is_list
        self._rows = ChunkBuilder[Mapping[str, Any]](options.replace(chunk_size=rows_at_once))
        self._responses = ChunkBuilder[None](options)
        self._rate_size = min(MAX_CHUNK, options.chunk_size)

    def add(self, values: Mapping[str, Any], size: int) -> None:
        """Count in a row, which takes ``size`` bytes in an upload."""
        if chunk := self._rows.add(Item(0, values, size)):
            self._uploaded(chunk)

    def finish(self) -> None:
        """Count what is left at the end of the rows."""
        while chunk := self._rows.take_rest():
            self._uploaded(chunk)
        self._finish_responses()

    def _uploaded(self, chunk: Chunk[Mapping[str, Any]]) -> None:
        self.upload += 1
        for item in chunk.items:
            answer = answer_bytes(self._template_bytes, item.value)
            for _ in range(self._epochs):
                if full := self._responses.add(Item(0, None, BODY_BYTES, (), answer)):
                    self._generated(full)
        if self._is_list:
            self._finish_responses()

    def _finish_responses(self) -> None:
        while chunk := self._responses.take_rest():
            self._generated(chunk)

    def _generated(self, chunk: Chunk[None]) -> None:
        self.generate += 1
        self.rate += math.ceil(len(chunk.items) / self._rate_size)
