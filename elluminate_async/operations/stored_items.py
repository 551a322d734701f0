"""The arguments of `add` and `add_many` of responses, checked and made into items."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set, Sized
from typing import Any, TypeAlias, cast

from elluminate_async.batch.options import shown
from elluminate_async.engine.chunks import Entry, Item, Passed
from elluminate_async.errors import InputError, ItemError
from elluminate_async.operations.context import check_many
from elluminate_async.operations.json_input import checked_input
from elluminate_async.operations.references import MAX_ID, id_of
from elluminate_async.operations.response_items import BODY_BYTES, ResponsePlan, ResponseSpec
from elluminate_async.schemas.generation_metadata import GenerationMetadata
from elluminate_async.schemas.messages import OUTPUT_ROLES, problem_of_messages
from elluminate_async.schemas.responses import readable_metadata
from elluminate_async.schemas.template_variables import TemplateVariables
from elluminate_async.tables.json_checks import problem_in

Output: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A response that was made elsewhere: its text, or its messages."""


def output_messages(response: object, position: int) -> list[dict[str, Any]]:
    """The messages of a response that was made elsewhere.

    Raises:
        InputError: It is neither a text nor messages with one of the assistant's.
    """
    if isinstance(response, str):
        return [{"role": "assistant", "content": response}]
    if isinstance(response, Sequence):
        messages = [
            cast("Mapping[str, Any]", message)
            for message in cast("Sequence[object]", response)
            if isinstance(message, Mapping)
        ]
        if len(messages) == len(cast("Sequence[object]", response)) and any(
            message.get("role") in ("assistant", "tool") for message in messages
        ):
            made = [dict(message) for message in messages]
            if problem := problem_of_messages(made, OUTPUT_ROLES):
                raise InputError(f"responses[{position}]: {problem}")
            return made
    raise InputError(
        f"responses[{position}] must be a text, or messages with at least one of the assistant's, "
        f"not {response!r:.80}"
    )


def metadata_of(metadata: object, where: str) -> GenerationMetadata | None:
    """How a response that was made elsewhere was made; of a mapping its fields.

    Raises:
        InputError: It is none, or has a field that there is not.
    """
    if metadata is None or isinstance(metadata, GenerationMetadata):
        return metadata
    if not isinstance(metadata, Mapping):
        raise InputError(f"{where} must be GenerationMetadata, not {metadata!r:.80}")
    fields = {str(name): value for name, value in cast("Mapping[object, object]", metadata).items()}
    if unknown := sorted(fields.keys() - GenerationMetadata.model_fields.keys()):
        known = ", ".join(sorted(GenerationMetadata.model_fields))
        raise InputError(f"{where} has {', '.join(unknown)}, which is none of {known}")
    with checked_input(where):
        return GenerationMetadata.model_validate(fields)


def check_metadata(metadata: GenerationMetadata | None, where: str) -> None:
    """Raise `InputError` for metadata that readers of the response would stumble over."""
    with checked_input(where):
        readable_metadata(metadata)


def check_epoch(epoch: object) -> None:
    """Raise `InputError` when ``epoch`` counts nothing."""
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 < epoch <= MAX_ID:
        raise InputError(f"epoch must be a whole number of at least 1, not {shown(epoch)}")


def optional_epoch(epoch: object) -> int | None:
    """The epoch that is given; None for nothing.

    Raises:
        InputError: As of `check_epoch`.
    """
    if epoch is not None:
        check_epoch(epoch)
    return cast("int | None", epoch)


def stored_specs(
    plan: ResponsePlan,
    responses: Sequence[object],
    variables: Sequence[TemplateVariables | int],
    metadata: Sequence[GenerationMetadata | None] | None,
) -> list[Entry[ResponseSpec]]:
    """The entries of an `add_many` call; one with half a character somewhere has failed.

    Unless the plan has one, a row's first response is its first epoch, and its next the second.

    Raises:
        InputError: The lists differ in length, or an entry cannot work.
    """
    lists: dict[str, object] = {"responses": responses, "template_variables": variables}
    if metadata is not None:
        lists["metadata"] = metadata
    lengths = {name: _length_of(values, name) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"the lists must have one entry for each response: {found}")
    seen = Counter[int]()
    items: list[Entry[ResponseSpec]] = []
    for position, (response, entry) in enumerate(zip(responses, variables, strict=True)):
        messages = output_messages(response, position)
        id = id_of(entry, TemplateVariables, f"template_variables[{position}]")
        seen[id] += 1
        if plan.epoch is not None and seen[id] > 1:
            raise InputError(
                f"template_variables[{position}] has come before: with epoch= each row comes once, "
                "as its responses of one call are different epochs"
            )
        made = None
        if metadata is not None:
            made = metadata_of(metadata[position], f"metadata[{position}]")
        parts: dict[str, object] = {
            f"responses[{position}]": response if isinstance(response, str) else messages
        }
        if made:
            parts[f"metadata[{position}]"] = made
        for path, part in parts.items():
            if problem := problem_in(part, path, texts=False):
                raise InputError(problem)
        problems = [problem for path, part in parts.items() if (problem := problem_in(part, path))]
        if problems:
            items.append(bad_input(position, problems[0]))
            continue
        check_metadata(made, f"metadata[{position}]")
        items.append(
            stored_item(plan, position, ResponseSpec(entry, messages, made, plan.epoch or seen[id]))
        )
    return _keyed(plan, items)


def _keyed(plan: ResponsePlan, items: list[Entry[ResponseSpec]]) -> list[Entry[ResponseSpec]]:
    """The items with the keys that they have in a run."""
    if plan.keying is None:
        return items
    contents = [
        (item.value.variables_id, item.value.messages, item.value.metadata)
        if isinstance(item, Item)
        else None
        for item in items
    ]
    return [*cast("Any", plan.keying.fitted(contents, "responses").keyed(items))]


def stored_item(plan: ResponsePlan, position: int, spec: ResponseSpec) -> Item[ResponseSpec]:
    """A response that exists, with its size."""
    size = BODY_BYTES + len(json.dumps(spec.messages, default=str))
    return Item(position, spec, size, (), plan.answer_bytes(spec.variables) + size)


def _length_of(values: object, what: str) -> int:
    check_many(values, what)
    # They have a length and no order: keys would be stored for values.
    if isinstance(values, Mapping | Set):
        raise InputError(f"{what} must be a list in the order of the rows, not {values!r:.80}")
    if isinstance(values, Sized):
        return len(values)
    raise InputError(f"{what} must be a list, not {shown(values)}")


def bad_input(position: int, problem: str) -> Passed:
    """An item that fails alone, before it is sent."""
    error = ItemError(problem, position=position, code="bad_input", operation="add", attempts=0)
    return Passed(position, error)
