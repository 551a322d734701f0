"""`EvaluationRecord`: one row under one configuration in one epoch; and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from elluminate_async.errors import ItemError, RatingError
from elluminate_async.evaluation.documents import Documented
from elluminate_async.evaluation.saved import criteria_in, outcomes_in
from elluminate_async.operations.new_ratings import ratings_of
from elluminate_async.schemas.prices import cost_of
from elluminate_async.schemas.ratings import RatingValue

if TYPE_CHECKING:
    from elluminate_async.batch import Batch, Outcome
    from elluminate_async.schemas.criteria import Criterion
    from elluminate_async.schemas.experiments import Experiment
    from elluminate_async.schemas.llm_configs import LLMConfig
    from elluminate_async.schemas.ratings import Rating
    from elluminate_async.schemas.responses import PromptResponse

T = TypeVar("T")

_VERDICTS = frozenset(RatingValue)


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationRecord(Documented):
    """One row under one configuration in one epoch: its response or error, its ratings or error.

    Attributes:
        position: Its index in the evaluation: rows in order, for each the configurations in
            order, for each the epochs.
        row: The index of its row in what was passed in, from 0.
        input: The row as it was passed in.
        config: The name of the configuration that answered.
        epoch: Which repetition of the row it is, from 1.
        outcome: The response, or why there is none.
        rated: The ratings, or why there are none, or not all; where there is no response, its
            error.
        llm_config: The configuration, with its prices; None where it is not known.
        paired_by: The columns of `input` that make the row the same in another evaluation: those
            that the prompt asks for; where it asks for none, all but that of the answers.
        criteria: Those that it is rated by, as far as they are known.
    """

    position: int
    row: int
    input: Mapping[str, Any]
    config: str
    epoch: int
    outcome: Outcome[PromptResponse]
    rated: Outcome[list[Rating]]
    llm_config: LLMConfig | None = None
    paired_by: tuple[str, ...] = ()
    criteria: Sequence[Criterion] = ()

    @property
    def response(self) -> PromptResponse | None:
        """The response; None when it failed."""
        return None if isinstance(self.outcome, ItemError) else self.outcome

    @property
    def ratings(self) -> Sequence[Rating] | None:
        """The ratings that there are, one per criterion; None without any: never an empty NO.

        Where the judge failed by some of the criteria they are those of the others, and `error`
        is why there are no more.
        """
        if isinstance(self.rated, RatingError):
            return ratings_of(self.rated) or None
        return None if isinstance(self.rated, ItemError) else self.rated

    @property
    def not_measured(self) -> list[Criterion]:
        """The criteria without a YES or a NO, of those that are known."""
        said = {rating.criterion.id for rating in self.ratings or () if rating.rating in _VERDICTS}
        return [criterion for criterion in self.criteria if criterion.id not in said]

    @property
    def error(self) -> ItemError | None:
        """Why the record is not whole: the response's error, else that of its ratings."""
        if isinstance(self.outcome, ItemError):
            return self.outcome
        return self.rated if isinstance(self.rated, ItemError) else None

    @property
    def passed(self) -> bool | None:
        """Whether every criterion was answered with YES; None when it was not measured.

        Of criteria that were not all measured one NO is enough for False, as the others could
        not make it True; without a NO it is None.
        """
        ratings = self.ratings
        if not ratings:
            return None
        if any(rating.rating != RatingValue.YES for rating in ratings):
            return False
        return None if isinstance(self.rated, ItemError) else True

    @property
    def response_str(self) -> str:
        """The text of the response; empty when there is none."""
        return "" if self.response is None else self.response.response_str

    @property
    def cost(self) -> float | None:
        """Of the generation, by the prices of its configuration; None when it is not known.

        In the currency of the prices, which are per million tokens. What the judge cost is
        not in it, as the service does not tell that.
        """
        metadata = None if self.response is None else self.response.generation_metadata
        return cost_of(metadata, self.llm_config)

    def __repr__(self) -> str:
        state = f"failed: {self.error.code}" if self.error else f"passed={self.passed}"
        return (
            f"<EvaluationRecord {self.position} {self.config!r} {dict(self.input)!r:.60} {state}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for one line of JSON; `input` as it was passed in."""
        response, ratings = self.response, self.ratings
        metadata = None if response is None else response.generation_metadata
        rating_error = self.rated if isinstance(self.rated, ItemError) else None
        return {
            "position": self.position,
            "row": self.row,
            "config": self.config,
            "epoch": self.epoch,
            "input": dict(self.input),
            "response_id": None if response is None else response.id,
            "response": None if response is None else response.response_str,
            "error": _error(self.outcome) if isinstance(self.outcome, ItemError) else None,
            "ratings": None if ratings is None else [_rating(rating) for rating in ratings],
            "rating_error": None if rating_error is None else _error(rating_error),
            "not_measured": [_criterion(one) for one in self.not_measured],
            "passed": self.passed,
            "input_tokens": None if metadata is None else metadata.input_tokens,
            "output_tokens": None if metadata is None else metadata.output_tokens,
            "duration_seconds": None if metadata is None else metadata.duration_seconds,
            "cost": self.cost,
            "paired_by": list(self.paired_by),
        }

    @classmethod
    def _read_document(cls, document: dict[str, Any]) -> EvaluationRecord:
        outcome, rated = outcomes_in(document)
        return cls(
            position=document["position"],
            row=document["row"],
            input=document["input"],
            config=document["config"],
            epoch=document["epoch"],
            outcome=at(outcome, document["position"]),
            rated=at(rated, document["position"]),
            paired_by=tuple(document.get("paired_by", ())),
            criteria=[*criteria_in(document)],
        )


def at(outcome: Outcome[T], position: int) -> Outcome[T]:
    """``outcome``, with its position where it is an error."""
    return outcome.at(position) if isinstance(outcome, ItemError) else outcome


def _criterion(criterion: Criterion) -> dict[str, Any]:
    return {
        "criterion_id": criterion.id,
        "criterion": criterion.criterion_str,
        "label": criterion.label,
    }


def _error(error: ItemError) -> dict[str, Any]:
    """Without the verdicts that there are, which the record has."""
    return {name: part for name, part in error.to_dict().items() if name != "ratings"}


def _rating(rating: Rating) -> dict[str, Any]:
    return {
        "id": rating.id,
        **_criterion(rating.criterion),
        "rating": str(rating.rating),
        "reasoning": rating.reasoning,
    }


@dataclass(frozen=True, slots=True)
class LaneResult:
    """The batches of one configuration, by row × epochs + epoch.

    Attributes:
        config: The configuration's name.
        criteria: Those of its records, as far as they are known.
    """

    config: str
    experiment: Experiment | None
    llm_config: LLMConfig | None
    responses: Batch[PromptResponse]
    ratings: Batch[list[Rating]]
    criteria: Sequence[Criterion] = ()
