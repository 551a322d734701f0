"""A document held against a JSON schema, as far as pydantic's schemas go."""

from __future__ import annotations

from typing import Any, cast

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_KNOWN = {
    "$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum",
    "items", "properties", "required", "title", "type",
}  # fmt: skip


def misfit(document: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> str:
    """Where and why the document is not as the schema wants it; empty where it is."""
    assert schema.keys() <= _KNOWN, schema.keys() - _KNOWN
    if reference := schema.get("$ref"):
        return misfit(document, root["$defs"][reference.rpartition("/")[2]], root, at)
    if choices := schema.get("anyOf"):
        found = [misfit(document, one, root, at) for one in choices]
        return "" if "" in found else found[0]
    if "const" in schema and document != schema["const"]:
        return f"{at} is not {schema['const']}"
    if "enum" in schema and document not in schema["enum"]:
        return f"{at} is none of {schema['enum']}"
    kinds = _TYPES[schema["type"]]
    if not isinstance(document, kinds) or (isinstance(document, bool) and bool not in kinds):
        return f"{at} is no {schema['type']}"
    return _of_parts(document, schema, root, at)


def _of_parts(document: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> str:
    parts: list[tuple[Any, dict[str, Any], str]] = []
    if isinstance(document, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        if missing := set(schema.get("required", ())) - set(cast("dict[str, Any]", document)):
            return f"{at} lacks {sorted(missing)}"
        if others is False and (more := set(cast("dict[str, Any]", document)) - set(properties)):
            return f"{at} has {sorted(more)}"
        for name, part in cast("dict[str, Any]", document).items():
            below = properties.get(name, others)
            if isinstance(below, dict):
                parts.append((part, cast("dict[str, Any]", below), f"{at}.{name}"))
    elif isinstance(document, list) and "items" in schema:
        listed = enumerate(cast("list[Any]", document))
        parts = [(part, schema["items"], f"{at}[{i}]") for i, part in listed]
    for part, below, where in parts:
        if found := misfit(part, below, root, where):
            return found
    return ""
