"""Stored messages and tools that readers do not understand, read as what comes nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from elluminate_async.schemas.messages import (
    OUTPUT_ROLES,
    TEMPLATE_ROLES,
    is_call,
    problem_of_messages,
    problem_of_tools,
)
from elluminate_async.schemas.prompt_templates import texts_in
from elluminate_async.server.store.nearest import tell

if TYPE_CHECKING:
    from collections.abc import Sequence


def of_template(stored: list[dict[str, Any]], name: str = "a prompt") -> list[dict[str, Any]]:
    """The messages of a template, or of a prompt; one of an unknown role is the user's."""
    return _readable(stored, TEMPLATE_ROLES, "user", name)


def of_output(stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a response; one of an unknown role is the assistant's."""
    return _readable(stored, OUTPUT_ROLES, "assistant", "a response")


def tools(stored: list[dict[str, Any]] | None, name: str) -> list[dict[str, Any]] | None:
    """The tools of a template, each with a function that has a name."""
    problem = problem_of_tools(stored, None)
    if stored is None or problem is None:
        return stored
    tell(f"a tool of {name}", problem, "a function")
    return [_tool(tool) for tool in stored]


def tool_choice(stored: str | dict[str, Any] | None, name: str) -> str | dict[str, Any] | None:
    """The choice among them; None where it is none."""
    if problem_of_tools(None, stored) is None:
        return stored
    tell(f"tool_choice of {name}", repr(stored), "None")
    return None


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if problem_of_tools([tool], None) is None:
        return tool
    function: object = tool.get("function")
    known = cast("dict[str, Any]", function) if isinstance(function, dict) else {}
    return {**tool, "type": "function", "function": {**known, "name": str(known.get("name", ""))}}


def _readable(
    stored: list[dict[str, Any]], roles: Sequence[str], usual: str, name: str
) -> list[dict[str, Any]]:
    """The same list where there is nothing to change."""
    problem = problem_of_messages(stored, roles)
    if problem is None:
        return stored
    tell(f"a message of {name}", problem, f"one of the role {usual}, or what its role needs")
    return [
        message
        if problem_of_messages([message], roles) is None
        else _nearest(message, roles, usual)
        for message in stored
    ]


def _nearest(message: dict[str, Any], roles: Sequence[str], usual: str) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in roles:
        role = usual
    near = {**message, "role": role}
    content: object = message.get("content")
    if not isinstance(content, str) and (
        content is not None or role not in ("assistant", "function")
    ):
        near["content"] = "".join(texts_in(content))
    if role == "tool":
        near["tool_call_id"] = str(message.get("tool_call_id") or "")
    if role == "function":
        near["name"] = str(message.get("name") or "")
    calls: object = message.get("tool_calls")
    if calls is not None:
        kept = cast("list[object]", calls) if isinstance(calls, list) else []
        objects = [cast("dict[str, Any]", call) for call in kept if isinstance(call, dict)]
        near["tool_calls"] = [_call(call) for call in objects] or None
    return near


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call with what it lacks."""
    if is_call(call):
        return call
    function: object = call.get("function")
    known = cast("dict[str, Any]", function) if isinstance(function, dict) else {}
    texts = {name: str(known.get(name) or "") for name in ("name", "arguments")}
    whole = {"id": str(call.get("id") or ""), "type": "function", "function": {**known, **texts}}
    return {**call, **whole}
