"""Answers in words that older official clients know.

What a newer client has stored, an older one reads in the same listing. Its models know fewer words,
and refuse the whole answer for one that they do not know. So an answer to an official client before
1.5 has those words replaced by what comes nearest; the rows stay as they are. Facts about the
clients are those of the protocol's page, sections 3 and 6.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from elluminate_async.schemas.llm_configs import LLMConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Version: TypeAlias = tuple[int, int]
"""Major and minor version of an official client."""

NEWEST: Final[Version] = (1, 5)
"""Clients from this one on know all words."""

_VERSION: Final = re.compile(rb"(\d{1,4})\.(\d{1,4})")
_EPOCH: Final = "1970-01-01T00:00:00Z"
# Where none of these is, the answer is sent as it is. A text within a text has its quotes escaped.
_SUSPICIOUS: Final = re.compile(
    rb'"(?:column_type|collection_type|evaluation_mode|role|prompt_template|collection'
    rb"|llm_model_name|llm_model_config|std_all_ratings|mean_reasoning_tokens"
    rb'|estimated_[a-z]+_cost_usd)":(?:null|"(?:conversation|raw_input|persona_goal|PERSONA'
    rb'|MULTI_TURN|system|developer|function)")'
)
_COLUMN_TYPES: Final = frozenset({"text", "json", "category"})
_LATER_COLUMN_TYPES: Final = _COLUMN_TYPES | {"conversation", "raw_input"}
_FIGURES: Final = (
    "std_all_ratings",
    "mean_reasoning_tokens",
    "estimated_input_cost_usd",
    "estimated_output_cost_usd",
    "estimated_total_cost_usd",
)
_ANSWERING_ROLES: Final = frozenset({"assistant", "tool", "user"})


class _Rule(NamedTuple):
    """A change of all objects that have a key, whoever they belong to.

    Attributes:
        before: Clients before this version need it.
        key: Objects with this key are meant.
        change: Changes one in place.
    """

    before: Version
    key: str
    change: Callable[[dict[str, Any], Version], None]


class OlderClients:
    """The application, whose answers older official clients can read.

    Args:
        app: Answers as the newest can.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        version = _version_of(scope) if scope["type"] == "http" else None
        if version is None or version >= NEWEST:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _Rewriting(send, version).send)


class _Rewriting:
    """Sends one answer, once all of it is there if it is JSON."""

    def __init__(self, send: Send, version: Version) -> None:
        self._send = send
        self._version = version
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
            return
        if self._start is None or message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            start, self._start = self._start, None
            body = readable(bytes(self._body), self._version)
            length = (b"content-length", b"%d" % len(body))
            others = [one for one in start["headers"] if one[0].lower() != length[0]]
            await self._send({**start, "headers": [*others, length]})
            await self._send({"type": "http.response.body", "body": body})


def readable(body: bytes, version: Version) -> bytes:
    """A JSON document as a client of ``version`` can read it."""
    if not _SUSPICIOUS.search(body):
        return body
    document = json.loads(body)
    rules = [rule for rule in _RULES if version < rule.before]
    todo = [document]
    while todo:
        one: Any = todo.pop()
        if isinstance(one, dict):
            found = cast("dict[str, Any]", one)
            for rule in rules:
                if rule.key in found:
                    rule.change(found, version)
            # What users and models wrote is theirs, whatever its keys.
            todo += [value for key, value in found.items() if key not in _THEIRS]
        elif isinstance(one, list):
            todo += cast("list[Any]", one)
    return json.dumps(document, separators=(",", ":")).encode()


_THEIRS: Final = frozenset(
    {"input_values", "environment_config", "trajectory", "custom_api_config", "custom_api_info"}
)


def _column(column: dict[str, Any], version: Version) -> None:
    known = _LATER_COLUMN_TYPES if version >= (0, 7) else _COLUMN_TYPES
    if column["column_type"] not in known:
        column["column_type"] = "text"


def _collection(collection: dict[str, Any], _: Version) -> None:
    if collection["collection_type"] == "PERSONA":
        collection["collection_type"] = "STANDARD"


def _experiment(experiment: dict[str, Any], _: Version) -> None:
    if experiment["evaluation_mode"] == "MULTI_TURN":
        experiment["evaluation_mode"] = "STANDARD"
    if experiment.get("collection", ...) is None:
        experiment["collection"] = {
            "id": 0,
            "name": "(no collection)",
            "description": "",
            "columns": [],
            "variables_count": 0,
            "read_only": False,
            "collection_type": "STANDARD",
            "environment_config": None,
            "version": None,
            "created_at": experiment.get("created_at", _EPOCH),
            "updated_at": experiment.get("updated_at", _EPOCH),
        }


def _response(response: dict[str, Any], _: Version) -> None:
    for message in response.get("messages") or ():
        if message.get("role") not in _ANSWERING_ROLES:
            message["role"] = "user"


def _template_of(owner: dict[str, Any], _: Version) -> None:
    # An experiment or a prompt; a criterion may have none.
    if owner["prompt_template"] is None and "criterion_str" not in owner:
        time = owner.get("created_at", _EPOCH)
        owner["prompt_template"] = {
            "id": 0,
            "name": "(no template)",
            "version": 1,
            "messages": [],
            "placeholders": [],
            "response_format_json_schema": None,
            "tools": None,
            "tool_choice": None,
            "criterion_set_id": None,
            "created_at": time,
            "updated_at": time,
        }


def _model_name(config: dict[str, Any], _: Version) -> None:
    if config["llm_model_name"] is None:
        config["llm_model_name"] = ""


def _metadata(metadata: dict[str, Any], _: Version) -> None:
    if metadata["llm_model_config"] is None:
        metadata["llm_model_config"] = LLMConfig(llm_model_name="").model_dump(mode="json")


def _results(results: dict[str, Any], _: Version) -> None:
    # The default of their models for what is not known, which may not be null for them.
    for name in _FIGURES:
        if results.get(name, ...) is None:
            results[name] = 0.0


_RULES: Final = (
    _Rule(NEWEST, "column_type", _column),
    _Rule(NEWEST, "collection_type", _collection),
    _Rule(NEWEST, "evaluation_mode", _experiment),
    _Rule(NEWEST, "generation_metadata", _response),
    _Rule(NEWEST, "llm_model_name", _model_name),
    _Rule(NEWEST, "mean_all_ratings", _results),
    _Rule((1, 0), "llm_model_config", _metadata),
    _Rule((0, 7), "prompt_template", _template_of),
)


def _version_of(scope: Scope) -> Version | None:
    for name, value in scope["headers"]:
        if name == b"sdk-version":
            found = _VERSION.match(value)
            return None if found is None else (int(found[1]), int(found[2]))
    return None


def _is_json(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"application/json")
        for name, value in start["headers"]
    )
