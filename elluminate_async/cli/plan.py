"""The plan of an evaluation, made without sending anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from elluminate_async.cli.documents import PlanDocument
from elluminate_async.cli.spec import Spec
from elluminate_async.errors import InputError
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.schemas.prompt_templates import lookalikes_in, placeholders_in

_SHOWN = 5


def prompt_of(spec: Spec, columns: Sequence[str]) -> str | list[dict[str, Any]]:
    """The prompt; for answers that exist without one, all other columns by their names.

    Raises:
        InputError: There is none, and answers are to be generated.
    """
    if isinstance(spec.prompt, str):
        return spec.prompt
    if spec.prompt is not None:
        return [message.model_dump() for message in spec.prompt]
    if spec.responses is None:
        raise InputError(
            "there is no prompt: give --prompt with {{placeholders}} for columns "
            f"({', '.join(columns)}), or prompt: in the spec"
        )
    others = [name for name in columns if name != spec.responses and name.isidentifier()]
    if not others:
        raise InputError(
            "the rows have nothing but answers: give --prompt with what they are answers to"
        )
    return "\n".join(f"{name}: {{{{{name}}}}}" for name in others)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows, in the order in which they come first."""
    return list(dict.fromkeys(name for row in rows for name in row))


def plan_of(spec: Spec, rows: Sequence[Mapping[str, Any]]) -> PlanDocument:
    """The plan of an evaluation of ``rows``.

    Raises:
        InputError: There is no prompt.
    """
    columns = columns_of(rows)
    prompt = prompt_of(spec, columns)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    placeholders = placeholders_in(messages)
    needed = dict.fromkeys(placeholders, True)
    if spec.responses is not None:
        needed.setdefault(spec.responses, False)
    configs = [one if isinstance(one, str) else one.name for one in spec.models] or ["(default)"]
    if spec.responses is not None:
        configs = ["given"]
    records = len(rows) * len(configs) * spec.epochs
    return PlanDocument(
        rows=len(rows),
        columns=columns,
        placeholders=placeholders,
        unused=[name for name in columns if name not in needed],
        configurations=configs,
        epochs=spec.epochs,
        generations=0 if spec.responses is not None else records,
        ratings=records,
        criteria=None if spec.criteria is None else len(spec.criteria),
        problems=_problems(rows, needed, columns)
        + _unfilled(messages, columns)
        + _of_spec(spec, configs),
        warnings=_warnings(messages, placeholders, columns),
    )


def _problems(
    rows: Sequence[Mapping[str, Any]], needed: Mapping[str, bool], columns: Sequence[str]
) -> list[str]:
    """The columns that rows lack, of those needed: for a placeholder, or else for answers."""
    problems: list[str] = []
    for name, is_placeholder in needed.items():
        if lacking := [index for index, row in enumerate(rows) if name not in row]:
            if len(lacking) == len(rows):
                meant = did_you_mean(name, columns, "{{{{{}}}}}" if is_placeholder else "{!r}")
                has = ", ".join(columns)
                problems.append(f"no row has a column {name!r}{meant or ';'} the columns are {has}")
                continue
            shown = ", ".join(map(str, lacking[:_SHOWN]))
            more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            problems.append(f"rows without a value for {name!r}: {shown}{more} (from 0)")
    return problems


def _unfilled(messages: list[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Columns that the prompt names in double braces, under a name that no placeholder has."""
    return [
        f"{text} would not be filled in, as a placeholder's name has letters, digits and _ only: "
        f"rename the column {column!r} to {re.sub(r'[^0-9A-Za-z_]+', '_', column)!r}"
        for text in lookalikes_in(messages)
        if (column := _braced(text)) in columns
    ]


def _braced(text: str) -> str:
    return text.strip("{}").strip()


def _of_spec(spec: Spec, configs: Sequence[str]) -> list[str]:
    if spec.responses is not None and (spec.models or spec.epochs > 1):
        return ["answers that exist are rated as they are: leave out models and epochs"]
    if len(set(configs)) < len(configs):
        return ["two models have the same name"]
    if spec.criteria is not None and not spec.criteria:
        return ["the list of criteria is empty: leave it out to have them proposed"]
    return []


def _warnings(
    messages: list[dict[str, Any]], placeholders: Sequence[str], columns: Sequence[str]
) -> list[str]:
    warnings = [
        f"{text} looks like a placeholder and is none: names have letters, digits and _"
        for text in lookalikes_in(messages)
        if _braced(text) not in columns
    ]
    if not placeholders:
        warnings.append("the prompt has no {{placeholders}}: it is the same for each row")
    return warnings
