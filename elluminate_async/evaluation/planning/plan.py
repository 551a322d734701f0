"""`EvaluationPlan`: what an evaluation would do, take and cost, told before anything is sent."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from elluminate_async.errors import InputError


@dataclass(frozen=True, slots=True)
class ConfigurationPlan:
    """One configuration's part of a plan.

    Attributes:
        generations: Responses that it is asked for.
        input_tokens: Tokens of all prompts; None where the prompt is not known.
        output_tokens: Tokens of all responses: as ``output_tokens=`` told, else at most, by the
            configuration's ``max_tokens``; None without either.
        input_cost: Of the prompts, by its prices; None where these are not known.
        cost: Of prompts and responses; None where a part of it is not known, which is not 0.
    """

    name: str
    generations: int
    input_tokens: int | None
    output_tokens: int | None
    input_cost: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class PlannedChunks:
    """The chunks of each step: the rows uploaded, responses, and ratings.

    Attributes:
        generate: Those that have responses generated, or store such as exist.
    """

    upload: int
    generate: int
    rate: int


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The plan of an evaluation, as `AsyncClient.plan` makes it.

    Attributes:
        rows: Their number.
        columns: Of all rows, in the order in which they come first.
        placeholders: Of the prompt; None where it is a template that is known by its id.
        unused: Columns that no placeholder asks for.
        duplicates: Indexes of rows that have the values of an earlier one for all placeholders.
        configurations: One plan each.
        criteria: Their number; None where the template's are taken, or proposed.
        generations: Responses that are generated: rows × configurations × epochs, 0 where they
            exist.
        ratings: Responses that are judged, each by every criterion.
        chunks: As an evaluation of a list sends them, if nothing fails. Of an iterable's rows
            more may go, as many as are there when a chunk is due.
        requests: Of the whole call, on a service that has idempotency keys and whose names are
            free yet; one more for each name that is taken.
        seconds: The least that it takes under the given limits; None without any limit. How
            long models take is not in it.
        problems: Why it cannot be run; empty where it can.
        warnings: What is probably not meant.
        notes: Where the figures are from, and why some are not known.
    """

    rows: int
    columns: tuple[str, ...]
    placeholders: tuple[str, ...] | None
    unused: tuple[str, ...]
    duplicates: tuple[int, ...]
    configurations: tuple[ConfigurationPlan, ...]
    epochs: int
    criteria: int | None
    generations: int
    ratings: int
    chunks: PlannedChunks
    requests: int
    seconds: float | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def input_tokens(self) -> int | None:
        """Tokens of all prompts; None where those of a configuration are not known."""
        return _sum([one.input_tokens for one in self.configurations])

    @property
    def output_tokens(self) -> int | None:
        """Tokens of all responses, as of each configuration."""
        return _sum([one.output_tokens for one in self.configurations])

    @property
    def cost(self) -> float | None:
        """Of all generations; None where a configuration's is not known. The judge is not in it."""
        return _sum([one.cost for one in self.configurations])

    def raise_for_problems(self) -> EvaluationPlan:
        """This plan.

        Raises:
            InputError: It cannot be run.
        """
        if self.problems:
            raise InputError("; ".join(self.problems))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; its sums included."""
        sums = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return {**asdict(self), **sums, "cost": self.cost}

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{html.escape(str(self))}</pre>"

    def __str__(self) -> str:
        """A line for each figure, for people."""
        return "\n".join(f"{name:<13} {value}" for name, value in self.lines().items())

    def lines(self) -> Mapping[str, str]:
        """The figures by their names, in words."""
        shown = {
            "rows": _with(
                self.rows, f"{len(self.duplicates)} of them as an earlier one", self.duplicates
            ),
            "columns": ", ".join(self.columns),
            "placeholders": _names(self.placeholders, "those of the template"),
            "unused": _names(self.unused, ""),
            "models": ", ".join(one.name for one in self.configurations),
            "epochs": str(self.epochs),
            "criteria": "the template's" if self.criteria is None else str(self.criteria),
            "generations": str(self.generations),
            "ratings": str(self.ratings),
            "chunks": f"{self.chunks.upload} of rows, {self.chunks.generate} of responses, "
            f"{self.chunks.rate} of ratings",
            "requests": str(self.requests),
            "tokens": f"{_known(self.input_tokens)} in, {_known(self.output_tokens)} out",
            "cost": _known(self.cost),
            "time": "no limit given" if self.seconds is None else f"at least {self.seconds:g} s",
        }
        for kind in ("problem", "warning", "note"):
            for number, text in enumerate(getattr(self, f"{kind}s"), 1):
                shown[f"{kind} {number}"] = text
        return shown


def _sum(parts: list[Any]) -> Any:
    return None if None in parts else sum(parts)


def _known(figure: float | None) -> str:
    if figure is None:
        return "unknown"
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)


def _names(names: tuple[str, ...] | None, unknown: str) -> str:
    return unknown if names is None else ", ".join(names) or "none"


def _with(count: int, more: str, there_is: object) -> str:
    return f"{count}, {more}" if there_is else str(count)
