"""Records of `EvaluationRecord.to_dict`, read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from elluminate_async.batch import Batch, Outcome
from elluminate_async.errors import InputError, ItemError
from elluminate_async.operations.new_ratings import with_ratings
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import (
    GenerationMetadata,
    Message,
    Prompt,
    PromptResponse,
)
from elluminate_async.schemas.template_variables import TemplateVariables


@dataclass(frozen=True, slots=True)
class SavedLane:
    """The batches of one configuration, by row × epochs + epoch."""

    config: str
    responses: Batch[PromptResponse]
    ratings: Batch[list[Rating]]
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class SavedRecords:
    """All records, in the order of an evaluation's parts."""

    inputs: Sequence[Mapping[str, Any]]
    lanes: Sequence[SavedLane]
    epochs: int
    paired_by: tuple[str, ...] = ()


def read_records(documents: Iterable[Mapping[str, Any]]) -> SavedRecords:
    """The parts of the evaluation that the documents are of, in any order.

    Raises:
        InputError: A document is none of `EvaluationRecord.to_dict`, or some are missing.
    """
    found: dict[tuple[str, int, int], tuple[Outcome[PromptResponse], Outcome[list[Rating]]]] = {}
    inputs: dict[int, Mapping[str, Any]] = {}
    paired_by: tuple[str, ...] = ()
    criteria: dict[str, dict[int, Criterion]] = {}
    for index, document in enumerate(documents):
        try:
            key = (str(document["config"]), int(document["row"]), int(document["epoch"]))
            inputs[key[1]] = dict(document["input"])
            # Records of before have none.
            paired_by = paired_by or tuple(map(str, document.get("paired_by", ())))
            found[key] = outcomes_in(document)
            criteria.setdefault(key[0], {}).update((one.id, one) for one in criteria_in(document))
        except (KeyError, TypeError, ValueError, ValidationError):
            raise InputError(f"record {index} is none of an evaluation's") from None
    configs = list(dict.fromkeys(config for config, _, _ in found))
    epochs = max((epoch for _, _, epoch in found), default=1)
    rows = len(inputs)
    places = [(row, epoch) for row in range(rows) for epoch in range(1, epochs + 1)]
    wanted = [(config, *place) for config in configs for place in places]
    if len(wanted) != len(found) or not found.keys() >= set(wanted):
        raise InputError(
            f"records are missing: there are {len(found)} of {rows} rows, {len(configs)} "
            f"configurations and {epochs} epochs, which make {len(wanted)}"
        )
    lanes: list[SavedLane] = []
    for config in configs:
        pairs = [found[config, *place] for place in places]
        # A record of which the judge failed has them in another order.
        known = tuple(criteria[config][id] for id in sorted(criteria[config]))
        responses, ratings = Batch(one for one, _ in pairs), Batch(one for _, one in pairs)
        lanes.append(SavedLane(config, responses, ratings, known))
    return SavedRecords([inputs[row] for row in range(rows)], lanes, epochs, paired_by)


def outcomes_in(
    document: Mapping[str, Any],
) -> tuple[Outcome[PromptResponse], Outcome[list[Rating]]]:
    """The response and the ratings of a record, or their errors."""
    if document["error"] is not None:
        error = ItemError.from_dict(document["error"])
        return error, error
    response = PromptResponse(
        id=document["response_id"],
        # What it was asked is not in a record, but for its values.
        prompt=Prompt(
            id=0,
            template_variables=TemplateVariables(id=0, input_values=dict(document["input"])),
        ),
        messages=[Message(role="assistant", content=document["response"])],
        generation_metadata=GenerationMetadata(
            duration_seconds=document["duration_seconds"],
            input_tokens=document["input_tokens"],
            output_tokens=document["output_tokens"],
        ),
        epoch=document["epoch"],
    )
    ratings = [_rating(one) for one in document["ratings"] or ()]
    if document["rating_error"] is not None:
        return response, with_ratings(ItemError.from_dict(document["rating_error"]), ratings)
    return response, ratings


def criteria_in(document: Mapping[str, Any]) -> Iterator[Criterion]:
    """Those that a record was to be rated by: with a verdict, or without."""
    for one in (*(document["ratings"] or ()), *document.get("not_measured", ())):
        yield _criterion(one)


def _criterion(document: Mapping[str, Any]) -> Criterion:
    return Criterion(
        id=document["criterion_id"],
        criterion_str=document["criterion"],
        label=document["label"],
    )


def _rating(document: Mapping[str, Any]) -> Rating:
    return Rating(
        id=document["id"],
        criterion=_criterion(document),
        rating=document["rating"],
        reasoning=document["reasoning"],
    )
