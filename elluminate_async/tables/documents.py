"""A `Batch` in pydantic's terms: a list of ``{position, value}`` and ``{position, error}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from pydantic_core import core_schema

from elluminate_async.errors import ItemError


class _Outcomes(Protocol):
    @property
    def outcomes(self) -> tuple[Any, ...]: ...


def batch_schema(
    cls: type[Any], value: core_schema.CoreSchema, error: core_schema.CoreSchema
) -> core_schema.CoreSchema:
    """The schema of a batch.

    A batch is taken as it is when its values are as ``value`` wants them; where they are converted
    by that, the result is another batch, which cannot be retried. A list of documents becomes a
    batch of as many positions, each of which must come once, in any order.

    Args:
        cls: `Batch`, called with outcomes.
        value: Of what it holds.
        error: Of `ItemError`.
    """
    documents = core_schema.list_schema(
        core_schema.tagged_union_schema(
            {
                "value": _document("value", value),
                "error": _document("error", error),
            },
            discriminator=_kind_of,
        )
    )

    def read(data: Any, validate: Callable[[Any], list[dict[str, Any]]]) -> object:
        if not isinstance(data, cls):
            return cls(_outcomes(validate(data)))
        batch = cast("_Outcomes", data)
        given = batch.outcomes
        read = _outcomes(validate(_documents(batch)))
        is_same = all(a is b or a == b for a, b in zip(given, read, strict=True))
        return data if is_same else cls(read)

    return core_schema.no_info_wrap_validator_function(
        read,
        documents,
        serialization=core_schema.plain_serializer_function_ser_schema(
            _documents, return_schema=documents
        ),
    )


def _document(name: str, schema: core_schema.CoreSchema) -> core_schema.CoreSchema:
    return core_schema.typed_dict_schema(
        {
            "position": core_schema.typed_dict_field(core_schema.int_schema(ge=0)),
            name: core_schema.typed_dict_field(schema),
        },
        cls_name=f"Batch{name.title()}",
    )


def _kind_of(document: object) -> str | None:
    if not isinstance(document, Mapping):
        return None
    return "error" if "error" in document else "value"


def _documents(batch: _Outcomes) -> list[dict[str, Any]]:
    return [
        {"position": i, "error" if isinstance(outcome, ItemError) else "value": outcome}
        for i, outcome in enumerate(batch.outcomes)
    ]


def _outcomes(documents: Sequence[Mapping[str, Any]]) -> list[Any]:
    outcomes = {d["position"]: d["error"] if "error" in d else d["value"] for d in documents}
    if len(outcomes) != len(documents) or any(p >= len(documents) for p in outcomes):
        raise ValueError(f"each position from 0 to {len(documents) - 1} must come once")
    return [outcomes[position] for position in range(len(documents))]
