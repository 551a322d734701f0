"""Records and figures in pydantic's terms: documents of what their `to_dict` gives.

An `Evaluation` and its records are read back from theirs; figures follow from records, and are
only written.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from pydantic_core import core_schema

from elluminate_async.errors import InputError
from elluminate_async.errors.documents import item_error_document
from elluminate_async.tables.texts import whole
from elluminate_async.tables.values import json_of_any

if TYPE_CHECKING:
    from pydantic_core import CoreSchema


class Documented:
    """A mixin: the JSON of an object is that of its `to_dict`, for pydantic and FastAPI too."""

    __slots__ = ()

    _derived: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with each figure by its name."""
        names = [field.name for field in fields(cast("Any", self))]
        return {name: _plain(getattr(self, name)) for name in (*names, *self._derived)}

    @classmethod
    def _read_document(cls, document: dict[str, Any]) -> object:
        raise ValueError(f"a {cls.__name__} is written and not read: it follows from records")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """As a field of a pydantic model it is a document of `to_dict`; NaN is null there."""
        document = _DOCUMENTS[cls.__name__]

        def read(found: dict[str, Any]) -> object:
            try:
                return cls._read_document(found)
            except InputError as error:
                raise ValueError(str(error)) from None

        from_document = core_schema.no_info_after_validator_function(read, document)
        return core_schema.json_or_python_schema(
            json_schema=from_document,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(cls), from_document], mode="left_to_right"
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _written, return_schema=document
            ),
        )


def _written(value: Documented) -> Any:
    return _whole(json_of_any(value.to_dict()))


def _whole(value: object) -> object:
    """``value`` without half characters, which no JSON in UTF-8 has."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        parts = cast("dict[str, object]", value)
        return {cast("str", _whole(key)): _whole(part) for key, part in parts.items()}
    return [*map(_whole, cast("list[object]", value))] if isinstance(value, list) else value


def _plain(value: object) -> object:
    if isinstance(value, Documented):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in cast("Mapping[str, object]", value).items()}
    return [*cast("list[object]", value)] if isinstance(value, list) else value


def _object(name: str, /, *, later: Container[str] = (), **parts: CoreSchema) -> CoreSchema:
    """A document; what is of ``later`` versions is not in each of before."""
    found = {
        part: core_schema.typed_dict_field(schema, required=part not in later)
        for part, schema in parts.items()
    }
    return core_schema.typed_dict_schema(found, cls_name=name)


def _or_null(schema: CoreSchema) -> CoreSchema:
    return core_schema.nullable_schema(schema)


_INT: Final = core_schema.int_schema()
_TEXT: Final = core_schema.str_schema()
_FLOAT: Final = core_schema.float_schema()
_BOOL: Final = core_schema.bool_schema()
_ANY: Final = core_schema.any_schema()
_MAYBE: Final = _or_null(_FLOAT)
_KEYS: Final = core_schema.list_schema(_ANY)

_INTERVAL: Final = _object("Interval", low=_FLOAT, high=_FLOAT, confidence=_FLOAT)
_RATE: Final = _object(
    "Rate",
    n=_INT,
    passed=_INT,
    not_measured=_INT,
    clusters=_INT,
    effective_n=_MAYBE,
    interval=_or_null(_INTERVAL),
    agreement=_MAYBE,
    rate=_MAYBE,
    error_rate=_MAYBE,
)
_SUMMARY: Final = _object("Summary", criteria=core_schema.dict_schema(_TEXT, _RATE), overall=_RATE)
_DIFFERENCE: Final = _object(
    "Difference",
    n=_INT,
    unpaired=_INT,
    rate_a=_MAYBE,
    rate_b=_MAYBE,
    difference=_MAYBE,
    interval=_or_null(_INTERVAL),
    p_value=_MAYBE,
    p_adjusted=_MAYBE,
    improved=_KEYS,
    regressed=_KEYS,
    verdict=_TEXT,
)
_CRITERION: Final = {"criterion_id": _INT, "criterion": _TEXT, "label": _or_null(_TEXT)}
_RECORD: Final = _object(
    "EvaluationRecord",
    later=("not_measured", "paired_by"),
    position=_INT,
    row=_INT,
    config=_TEXT,
    epoch=_INT,
    input=core_schema.dict_schema(_TEXT, _ANY),
    response_id=_or_null(_INT),
    response=_or_null(_TEXT),
    error=_or_null(item_error_document()),
    ratings=_or_null(
        core_schema.list_schema(
            _object(
                "EvaluationRating",
                id=_INT,
                **_CRITERION,
                rating=_TEXT,
                reasoning=_or_null(_TEXT),
            )
        )
    ),
    rating_error=_or_null(item_error_document()),
    not_measured=core_schema.list_schema(_object("EvaluationCriterion", **_CRITERION)),
    passed=_or_null(_BOOL),
    input_tokens=_or_null(_INT),
    output_tokens=_or_null(_INT),
    duration_seconds=_MAYBE,
    cost=_MAYBE,
    paired_by=core_schema.list_schema(_TEXT),
)
_DOCUMENTS: Final[Mapping[str, CoreSchema]] = {
    "Interval": _INTERVAL,
    "Rate": _RATE,
    "Summary": _SUMMARY,
    "EvaluationSummary": _object(
        "EvaluationSummary",
        confidence=_FLOAT,
        configurations=core_schema.dict_schema(_TEXT, _SUMMARY),
    ),
    "Difference": _DIFFERENCE,
    "Comparison": _object(
        "Comparison",
        later=("reason",),
        criteria=core_schema.dict_schema(_TEXT, _DIFFERENCE),
        overall=_DIFFERENCE,
        confidence=_FLOAT,
        reason=_or_null(_TEXT),
    ),
    "Gate": _object(
        "Gate",
        status=core_schema.literal_schema(["passed", "failed", "not measured"]),
        reasons=core_schema.list_schema(_TEXT),
        passed=_BOOL,
    ),
    "EvaluationRecord": _RECORD,
    "Evaluation": _object("Evaluation", name=_TEXT, records=core_schema.list_schema(_RECORD)),
}
