"""The plan of an evaluation, made without sending anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from elluminate_async import AsyncClient, EvaluationPlan, InputError, LLMConfig, RatingMode
from elluminate_async.cli.documents import ChunksDocument, PlanDocument
from elluminate_async.cli.settings import criteria_of, options_of
from elluminate_async.cli.spec import ModelSpec, Spec
from elluminate_async.schemas.prompt_templates import lookalikes_in

if TYPE_CHECKING:
    from elluminate_async.cli.data import Row
    from elluminate_async.cli.runs import RunFile


_NOWHERE: Final = "http://127.0.0.1"


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


def plan_of(file: RunFile, rows: Sequence[Row]) -> PlanDocument:
    """The plan of a run over ``rows``.

    Raises:
        InputError: There is no prompt, or the spec contradicts itself.
    """
    spec = file.spec
    _check(spec)
    prompt = prompt_of(spec, columns_of(rows))
    # Which is never entered: a plan needs no service.
    client = AsyncClient(api_key="none", base_url=_NOWHERE, options=options_of(file))
    plan = client.plan(
        rows,
        prompt=prompt,
        criteria=criteria_of(spec),
        llm_configs=[_config(one) for one in spec.models] or None,
        responses=spec.responses,
        name=file.title,
        epochs=spec.epochs,
        rating_mode=RatingMode(spec.rating_mode),
        journal=file.title,
        max_cost=spec.max_cost,
        output_tokens=spec.output_tokens,
    )
    document = _document(asyncio.run(plan), prompt)
    if spec.prompt is None and document.problems:
        told = "the prompt was made of all columns but the answers': give --prompt to choose"
        document.problems.append(told)
    return document


def _document(plan: EvaluationPlan, prompt: str | list[dict[str, Any]]) -> PlanDocument:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    unfilled, told = _unfilled(messages, plan.columns), lookalikes_in(messages)
    # Of these it is told how to mend them.
    known = [text for text in told if _braced(text) in plan.columns]
    warnings = [text for text in plan.warnings if not text.startswith(tuple(known))]
    return PlanDocument(
        rows=plan.rows,
        columns=list(plan.columns),
        placeholders=list(plan.placeholders or ()),
        unused=list(plan.unused),
        duplicates=len(plan.duplicates),
        configurations=[one.name for one in plan.configurations],
        epochs=plan.epochs,
        generations=plan.generations,
        ratings=plan.ratings,
        criteria=plan.criteria,
        chunks=ChunksDocument(
            upload=plan.chunks.upload, generate=plan.chunks.generate, rate=plan.chunks.rate
        ),
        requests=plan.requests,
        input_tokens=plan.input_tokens,
        output_tokens=plan.output_tokens,
        cost=plan.cost,
        seconds=plan.seconds,
        problems=[*plan.problems, *unfilled],
        warnings=warnings,
        notes=list(plan.notes),
    )


def _config(model: str | ModelSpec) -> str | LLMConfig:
    """The configuration of a model that the spec describes; of one by name only the name."""
    if isinstance(model, str):
        return model
    fields = model.model_dump(exclude_none=True, exclude={"base_url", "api_key_env"})
    return LLMConfig.model_validate({"llm_model_name": model.name, **fields})


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


def _check(spec: Spec) -> None:
    names = [one if isinstance(one, str) else one.name for one in spec.models]
    if spec.responses is not None and (spec.models or spec.epochs > 1):
        raise InputError("answers that exist are rated as they are: leave out models and epochs")
    if len(set(names)) < len(names):
        raise InputError("two models have the same name")
    if spec.criteria is not None and not spec.criteria:
        raise InputError("the list of criteria is empty: leave it out to have them proposed")
