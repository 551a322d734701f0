"""Chat messages and tools as every reader of the protocol understands them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

TEMPLATE_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
"""Roles of a template's messages."""

OUTPUT_ROLES: Final = ("assistant", "tool", "user", "system")
"""Roles of a response's messages."""

_TOOL_CHOICES: Final = ("none", "auto", "required")


def problem_of_messages(
    messages: Sequence[Mapping[str, Any]], roles: Sequence[str] = TEMPLATE_ROLES
) -> str | None:
    """Where readers would stumble over messages, and why; None for nowhere."""
    for number, message in enumerate(messages, 1):
        if problem := _problem_of(message, roles):
            return f"message {number} {problem}"
    return None


def problem_of_choice(tools: object, tool_choice: object) -> str | None:
    """As `problem_of_tools`, and that a choice needs tools to choose from."""
    if tool_choice is not None and tools is None:
        return "tool_choice is given without tools"
    return problem_of_tools(tools, tool_choice)


def problem_of_tools(tools: object, tool_choice: object) -> str | None:
    """Where readers would stumble over tools and the choice among them; None for nowhere."""
    for number, tool in enumerate(cast("Sequence[object]", tools or ()), 1):
        function = _part(tool, "function")
        if _part(tool, "type") != "function" or not isinstance(_part(function, "name"), str):
            return f"tool {number} must be {{'type': 'function', 'function': {{'name': ...}}}}"
    if tool_choice is None or tool_choice in _TOOL_CHOICES:
        return None
    named = _part(_part(tool_choice, "function"), "name")
    if _part(tool_choice, "type") == "function" and isinstance(named, str):
        return None
    return (
        f"tool_choice must be one of {', '.join(_TOOL_CHOICES)}, or "
        "{'type': 'function', 'function': {'name': ...}}"
    )


def _problem_of(message: Mapping[str, Any], roles: Sequence[str]) -> str | None:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        return "has no role"
    if role not in roles:
        return f"has the role {role!r:.60}: it must be one of {', '.join(roles)}"
    if not _is_content(content):
        return "has a content that is neither text nor parts of it"
    if roles is OUTPUT_ROLES and role == "assistant" and isinstance(content, list):
        return "of the role assistant has parts: give its text"
    if content is None and role not in ("assistant", "function"):
        return f"of the role {role} has no content"
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        return "of the role tool has no tool_call_id"
    if role == "function" and not isinstance(message.get("name"), str):
        return "of the role function has no name"
    return _problem_of_calls(message.get("tool_calls"), is_output=roles is OUTPUT_ROLES)


def _problem_of_calls(calls: object, *, is_output: bool) -> str | None:
    if calls is None:
        return None
    if not _are_objects(calls):
        return "has tool calls that are not a list of objects"
    if is_output and not all(map(is_call, cast("list[object]", calls))):
        return "has a tool call without id, type, or name and arguments of a function"
    return None


def is_call(call: object) -> bool:
    """Whether readers of a response understand a tool call."""
    kind = _part(call, "type")
    inner = _part(call, kind) if kind in ("function", "custom") else None
    parts = ("name", "arguments" if kind == "function" else "input")
    return isinstance(_part(call, "id"), str) and all(
        isinstance(_part(inner, part), str) for part in parts
    )


def _is_content(content: object) -> bool:
    if content is None or isinstance(content, str):
        return True
    return _are_objects(content) and all(
        isinstance(part.get("text", ""), str) for part in cast("list[dict[str, Any]]", content)
    )


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, dict) for part in cast("list[object]", value)
    )


def _part(value: object, name: object) -> object:
    return cast("Mapping[object, object]", value).get(name) if isinstance(value, Mapping) else None
