"""`Usage`: the tokens that an evaluation took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elluminate_async.evaluation.records import EvaluationRecord


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the generations, as far as they are known; those of the judge are not told.

    Attributes:
        responses: Responses that there are.
        unknown: Of these, those without a count of tokens, which are in no sum.
    """

    input_tokens: int
    output_tokens: int
    responses: int
    unknown: int

    @classmethod
    def of(cls, records: Iterable[EvaluationRecord]) -> Usage:
        """The tokens of these records' responses."""
        total = [0, 0, 0, 0]
        for record in records:
            if record.response is None:
                continue
            metadata = record.response.generation_metadata
            tokens = (metadata.input_tokens, metadata.output_tokens) if metadata else (None, None)
            total[0] += tokens[0] or 0
            total[1] += tokens[1] or 0
            total[2] += 1
            total[3] += None in tokens
        return cls(*total)
