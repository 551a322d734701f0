"""The keys of the server's own description: which of those of a document it does not tell of."""

from __future__ import annotations

import json
import re
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]

_PREFIX = "/api/v0"
_PROJECT = "/projects/{project_id}"


def spelled(method: str, path: str) -> str:
    """Method and route, without what is the same for all of a project."""
    return f"{method} {path.removeprefix(_PREFIX).replace(f'{_PROJECT}/', '/')}"


class Description:
    """The document that the server gives of itself."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.schemas: dict[str, Json] = document["components"]["schemas"]
        # Those of the fewest parts to fill in first, which is how the server tries them.
        paths = sorted(document["paths"], key=lambda path: path.count("{"))
        self._patterns = {
            path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$") for path in paths
        }
        self._named: dict[str, set[str]] = {}
        for key, schema in self.schemas.items():
            self._note(key.removesuffix("-Input").removesuffix("-Output"), schema)
        self.operations: dict[str, Json] = {
            spelled(method.upper(), path): operation
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        }

    def _note(self, name: str, schema: object) -> None:
        if isinstance(schema, list):
            for one in cast("list[object]", schema):
                self._note("", one)
        elif isinstance(schema, dict):
            found = cast("Json", schema)
            is_named = name != ""
            name = name or str(found.get("title"))
            if found.get("type") == "object" and (is_named or "properties" in found):
                keys = set(found.get("properties", ()))
                # Where there are several, as for requests and answers: what all of them have.
                self._named[name] = self._named.get(name, keys) & keys
            for one in found.values():
                self._note("", one)

    def operation_of(self, method: str, path: str) -> str:
        """Method and route of a request."""
        route = next(route for route, one in self._patterns.items() if one.match(path))
        return spelled(method, route)

    def unknown_queries(self, operation: str, target: str) -> set[str]:
        """Names in a request's query that the operation does not have."""
        known = {
            one["name"]
            for one in self.operations[operation].get("parameters", ())
            if one["in"] == "query"
        }
        given = parse_qsl(urlsplit(target).query, keep_blank_values=True)
        return {f"{operation}?{name}" for name, _ in given if name not in known}

    def unknown_of_request(self, operation: str, body: bytes) -> set[str]:
        """Keys of a request's body that the operation does not have, with their path."""
        content = self.operations[operation].get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        found = self._unknown(schema, json.loads(body), "")
        return {f"{operation} < {path}" for path in found}

    def unknown_of_answer(self, operation: str, answer: bytes) -> set[str]:
        """Keys of an answer, or of the events of a stream, that are not described."""
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(maxsplit=2)[1].decode()
        content = self.operations[operation]["responses"][status].get("content", {})
        kind, documents = "application/json", [body]
        if b"text/event-stream" in head:
            kind = "text/event-stream"
            documents = [one[6:] for one in body.splitlines() if one.startswith(b"data: ")]
        schema = content.get(kind, {}).get("schema", {})
        found = {
            path for one in documents if one for path in self._unknown(schema, json.loads(one), "")
        }
        return {f"{operation} {status} > {path}" for path in found}

    def keys_of_named(self, name: str) -> set[str]:
        """Of the object of that name, wherever it is described; none where it is not."""
        return self._named.get(name, set())

    def _unknown(self, schema: Json, value: object, path: str) -> set[str]:
        schema = self._looked_up(schema)
        if alternatives := _alternatives(schema):
            fitting = [one for one in alternatives if self._fits(one, value)]
            found = [self._unknown(one, value, path) for one in fitting]
            return min(found, key=len, default=set[str]())
        if isinstance(value, list):
            parts = [
                (schema.get("items", {}), one, f"{path}[]") for one in cast("list[object]", value)
            ]
            return set[str]().union(*(self._unknown(*part) for part in parts))
        if isinstance(value, dict):
            return self._unknown_keys(schema, cast("Json", value), path)
        return set()

    def _unknown_keys(self, schema: Json, value: Json, path: str) -> set[str]:
        known: Json = schema.get("properties", {})
        # Of what may have any keys, they are its user's.
        is_open = not known or schema.get("additionalProperties") is True
        found = set[str]()
        for name, one in value.items():
            where = f"{path}.{name}".removeprefix(".")
            if name in known:
                found |= self._unknown(known[name], one, where)
            elif not is_open:
                found.add(where)
        return found

    def _fits(self, schema: Json, value: object) -> bool:
        kind = self._looked_up(schema).get("type")
        return kind not in ("object", "array") or (kind == "array") == isinstance(value, list)

    def _looked_up(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        return schema


def _alternatives(schema: Json) -> list[Json]:
    return [one for kind in ("anyOf", "oneOf", "allOf") for one in schema.get(kind, ())]
