"""Docstrings as the reference renders them: Google's style, with some habits of this package.

A griffe extension, which turns these habits into Markdown:

* a paragraph that begins with ``Cost:``, ``Memory:`` or ``Source:`` is a section;
* ``::`` before an indented block is reStructuredText's colon;
* a public name in single backticks, such as `Batch.failed`, is a link.

Fields of pydantic models and of typed dictionaries are shown as a dataclass's are: in a signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

PACKAGES = ("elluminate_async", "elluminate_async.testing", "elluminate_async.server")
_RESOURCES = re.findall(
    r"^::: elluminate_async\.(resources\.\w+\.\w+Resource)$",
    (Path(__file__).parents[1] / "reference" / "resources.md").read_text("utf-8"),
    re.M,
)
_SECTION = re.compile(r"^(Cost|Memory|Source): ", re.M)
_INLINE = re.compile(r"(?<=\. )(Cost|Memory): ")
_LITERAL = re.compile(r"^(.*\S)?::$", re.M)
_FIELDS_ONLY = {"WireModel", "TypedDict"}
_NAME = re.compile(r"(?<![`\[\w])`([A-Za-z_][\w.]*)`(?!`)")


class Docstrings(griffe.Extension):
    """Rewrites each docstring once, when the whole package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called by griffe."""
        known = public_paths(pkg)
        owners = list(_objects(pkg))
        for owner in [one for one in owners if one.is_class and _FIELDS_ONLY & _base_names(one)]:
            owner.set_member("__init__", _signature(owner))
        for owner in owners:
            if owner.is_class:
                # Readers know no base of their own; what those have is shown in the class.
                owner.bases = [base for base in owner.bases if str(base) not in _FIELDS_ONLY]
            if owner.docstring is not None:
                owner.docstring.value = markdown(owner.docstring.value, _scope(owner), known)


def markdown(text: str, scope: str, known: dict[str, str]) -> str:
    """The docstring as Markdown; ``scope`` is the class in which its names are looked up first."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        path = known.get(f"{scope}.{name}") or known.get(name)
        return f"[`{name}`][{path}]" if path else found[0]

    text = _INLINE.sub(r"**\1:** ", _SECTION.sub(r"\n**\1:** ", text))
    text = _LITERAL.sub(lambda found: f"{found[1]}:" if found[1] else "", text)
    return _NAME.sub(link, text)


def public_paths(package: griffe.Module) -> dict[str, str]:
    """Public names, their members as ``Class.member``, and ``noun.method`` to their anchors."""
    known: dict[str, str] = {}
    for path in PACKAGES:
        below = path.partition(".")[2]
        module: Any = package[below] if below else package
        for name in map(str, module.exports or ()):
            known.setdefault(name, f"{path}.{name}")
            known |= _members(module[name], name, f"{path}.{name}")
    for path in _RESOURCES:
        resource: Any = package[path]
        known |= _members(resource, resource.parent.name, resource.path)
        known |= _members(resource, resource.name, resource.path)
    return known


def _members(owner: Any, name: str, path: str) -> dict[str, str]:
    members: dict[str, Any] = owner.all_members if owner.is_class else {}
    return {
        f"{name}.{one}": f"{path}.{one}"
        for one, member in members.items()
        if not one.startswith("_") and member.docstring
    }


def _scope(owner: Any) -> str:
    holder = owner if owner.is_class else owner.parent
    return holder.name if holder is not None and holder.is_class else ""


def _objects(owner: Any) -> Iterator[Any]:
    yield owner
    for member in owner.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _base_names(owner: Any) -> set[str]:
    names = {str(base).rpartition(".")[2] for base in owner.bases}
    return names.union(*(_base_names(base) for base in owner.resolved_bases))


def _signature(owner: Any) -> griffe.Function:
    """The constructor that the fields make."""
    made = griffe.Function("__init__", parent=owner)
    for name, field in owner.all_members.items():
        if field.is_attribute and field.annotation is not None and not name.startswith("_"):
            if str(field.annotation).startswith("ClassVar"):
                continue
            # `Field` is about how it is read; such fields have no default here.
            default = None if "Field(" in str(field.value) else field.value
            kind = griffe.ParameterKind.keyword_only
            parameter = griffe.Parameter(
                name, annotation=field.annotation, kind=kind, default=default
            )
            made.parameters.add(parameter)
    return made
