"""`ItemError` in pydantic's terms: a document of what its `to_dict` gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import core_schema

if TYPE_CHECKING:
    from elluminate_async.errors.items import ItemError

_NEEDED: Final = {
    "text": core_schema.str_schema(),
    "position": core_schema.int_schema(),
    "operation": core_schema.str_schema(),
}
_NULLABLE: Final = {
    "status": core_schema.int_schema(),
    "request_id": core_schema.str_schema(),
    "response_id": core_schema.int_schema(),
    "retry_after": core_schema.float_schema(),
    "cause": core_schema.str_schema(),
}
_OTHERS: Final = {
    "type": core_schema.str_schema(),
    "code": core_schema.str_schema(),
    "attempts": core_schema.int_schema(),
    "retryable": core_schema.bool_schema(),
    # Of a `GenerationError` alone.
    "output": core_schema.str_schema(),
    # Of a `RatingError` alone.
    "ratings": core_schema.list_schema(core_schema.dict_schema(core_schema.str_schema())),
}


def item_error_document() -> core_schema.CoreSchema:
    """A document of `ItemError.to_dict`."""
    fields = {name: core_schema.typed_dict_field(kind) for name, kind in _NEEDED.items()}
    for name, kind in _OTHERS.items():
        fields[name] = core_schema.typed_dict_field(kind, required=False)
    for name, kind in _NULLABLE.items():
        nullable = core_schema.nullable_schema(kind)
        fields[name] = core_schema.typed_dict_field(nullable, required=False)
    return core_schema.typed_dict_schema(fields, cls_name="ItemError")


def item_error_schema(cls: type[ItemError]) -> core_schema.CoreSchema:
    """An error of that class, or a document that `ItemError.from_dict` reads as one."""
    document = item_error_document()

    def read(data: dict[str, Any]) -> ItemError:
        error = cls.from_dict(data)
        if not isinstance(error, cls):
            raise ValueError(f"it is {type(error).__name__}, not {cls.__name__}")
        return error

    from_document = core_schema.no_info_after_validator_function(read, document)
    return core_schema.json_or_python_schema(
        json_schema=from_document,
        python_schema=core_schema.union_schema(
            [core_schema.is_instance_schema(cls), from_document], mode="left_to_right"
        ),
        serialization=core_schema.plain_serializer_function_ser_schema(
            _to_dict, return_schema=document
        ),
    )


def _to_dict(error: ItemError) -> Mapping[str, Any]:
    return error.to_dict()
