"""`Planner`: the rows of an evaluation, gone through as it would go through them, and not sent.

Two rows of a list, two epochs, chunks of one item::

    rows       0 1            one chunk of rows
    responses  0a 0b 1a 1b    four chunks, POST and event stream each
    ratings    0a 0b 1a 1b    as many: what came together is rated together
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Iterator, Sequence
from typing import TYPE_CHECKING

from elluminate_async.batch.options import shown
from elluminate_async.errors import InputError
from elluminate_async.evaluation.planning.chunk_counts import ChunkCounts
from elluminate_async.evaluation.planning.plan import (
    ConfigurationPlan,
    EvaluationPlan,
    PlannedChunks,
)
from elluminate_async.evaluation.planning.survey import RowSurvey
from elluminate_async.evaluation.planning.tokens import Counter, CountTokens, counter_for, tokens_of
from elluminate_async.evaluation.request import messages_of
from elluminate_async.operations.answer_sizes import size_of
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prices import Prices
from elluminate_async.schemas.prompt_templates import (
    PromptTemplate,
    filled_texts,
    lookalikes_in,
    placeholders_in,
)

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions, RateLimit
    from elluminate_async.evaluation.request import EvaluationRequest


class Planner:
    """Makes the plan of one evaluation.

    Args:
        request: What is to be evaluated.
        options: Of the call, narrowed by its client's.
        limits: All limits on requests, and all limits on items.
        output_tokens: Tokens of one response, as the caller expects them.
        count_tokens: The caller's own way to count those of a text.
    """

    def __init__(
        self,
        request: EvaluationRequest,
        options: BatchOptions,
        limits: tuple[Sequence[RateLimit], Sequence[RateLimit]],
        *,
        output_tokens: int | None,
        count_tokens: CountTokens | None,
    ) -> None:
        self._request = request
        self._limits = limits
        self._output_tokens = output_tokens
        self._messages = messages_of(request.prompt)
        placeholders = None if self._messages is None else placeholders_in(self._messages)
        self._placeholders = placeholders
        answers = request.answers
        self._survey = RowSurvey(placeholders, answers if isinstance(answers, str) else None)
        self._counts = ChunkCounts(
            request.step_options(options),
            request.rows_at_once(options),
            request.epochs,
            0 if self._messages is None else size_of(self._messages),
            is_list=request.total is not None,
        )
        self._counters: dict[str | None, Counter] = {}
        if answers is None and self._messages is not None:
            models = dict.fromkeys(map(_model_of, request.llm_configs))
            self._counters = {model: counter_for(model, count_tokens) for model in models}
        self._tokens = dict.fromkeys(self._counters, 0)

    async def plan(self) -> EvaluationPlan:
        """Read all rows of the request, and tell."""
        rows = self._request.rows
        assert rows is not None
        if isinstance(rows, AsyncIterable):
            async for row in rows:
                self._read(row)
        else:
            for row in rows:
                self._read(row)
        return self._plan()

    def _read(self, row: object) -> None:
        if (seen := self._survey.note(row)) is None:
            return
        values, size = seen
        self._counts.add(values, size)
        if self._messages is None or not self._counters:
            return
        texts = filled_texts(self._messages, values)
        for model, counter in self._counters.items():
            self._tokens[model] += tokens_of(texts, counter)

    def _plan(self) -> EvaluationPlan:
        self._counts.finish()
        request, survey, counts = self._request, self._survey, self._counts
        lanes = len(request.llm_configs)
        chunks = PlannedChunks(counts.upload, counts.generate * lanes, counts.rate * lanes)
        ratings = survey.rows * request.fan_out
        generations = 0 if request.answers is not None else ratings
        requests = self._requests(chunks)
        configurations, notes = self._configurations()
        return EvaluationPlan(
            rows=survey.rows,
            columns=tuple(survey.columns),
            placeholders=None if self._placeholders is None else tuple(self._placeholders),
            unused=survey.unused(),
            duplicates=tuple(survey.duplicates),
            configurations=configurations,
            epochs=request.epochs,
            criteria=_count_criteria(request),
            generations=generations,
            ratings=ratings,
            chunks=chunks,
            requests=requests,
            seconds=self._seconds(requests, generations + ratings),
            problems=(*survey.problems(), *self._without_price()),
            warnings=(*self._warnings(configurations), *survey.warnings()),
            notes=notes,
        )

    def _requests(self, chunks: PlannedChunks) -> int:
        request = self._request
        template = 0 if isinstance(request.prompt, PromptTemplate) else 1
        criteria = 0 if request.criterion_set is not None else 1
        # The collection, and an experiment for each configuration.
        configs = sum(2 if isinstance(one, str | int) else 1 for one in request.llm_configs)
        # Each job is begun, and followed.
        steps = chunks.upload + 2 * (chunks.generate + chunks.rate)
        if request.journal is not None:
            # Who serves, and the objects of each step; before each rating those that exist.
            steps += 1 + 3 * len(request.llm_configs) + chunks.rate
        return template + criteria + 1 + configs + steps

    def _seconds(self, requests: int, items: int) -> float | None:
        """By strict limits: a window's worth at once, and the rest in the windows after it."""
        of_requests, of_items = self._limits
        waits = [_seconds_under(limit, requests) for limit in of_requests]
        waits += [_seconds_under(limit, items) for limit in of_items]
        each = self._survey.rows * self._request.epochs
        for one in self._request.llm_configs:
            if isinstance(one, LLMConfig) and one.requests_per_minute:
                waits.append(max(0.0, 60.0 * (each / one.requests_per_minute - 1)))
        return max(waits) if waits else None

    def _configurations(self) -> tuple[tuple[ConfigurationPlan, ...], tuple[str, ...]]:
        if self._request.answers is not None:
            return (ConfigurationPlan("given", 0, 0, 0, 0.0, 0.0),), ()
        notes: dict[str, list[str]] = {}
        plans = tuple(self._configuration(one, notes) for one in self._request.llm_configs)
        return plans, tuple(told.format(", ".join(names)) for told, names in notes.items())

    def _configuration(
        self, one: str | LLMConfig | int | None, notes: dict[str, list[str]]
    ) -> ConfigurationPlan:
        """The plan of one; notes are for the names that they are true of."""
        name, config = _name_of(one), one if isinstance(one, LLMConfig) else None
        count = self._survey.rows * self._request.epochs
        tokens_in = tokens_out = input_cost = cost = None
        if self._messages is not None:
            counter = self._counters[_model_of(one)]
            tokens_in = self._tokens[_model_of(one)] * self._request.epochs
            notes.setdefault(f"prompts of {{}}: tokens by {counter.by}", []).append(name)
        if each := self._output_tokens or (config and config.max_tokens):
            tokens_out = each * count
            how = "as output_tokens tells" if self._output_tokens else "at most, by max_tokens"
            notes.setdefault(f"answers of {{}}: {each} tokens each, {how}", []).append(name)
        else:
            told = "answers of {}: their tokens are not known; output_tokens is there to tell them"
            notes.setdefault(told, []).append(name)
        if (prices := Prices.of(config)) is None:
            notes.setdefault("prices of {}: not known", []).append(name)
        elif tokens_in is not None:
            input_cost = prices.cost(tokens_in, 0)
            cost = None if tokens_out is None else prices.cost(tokens_in, tokens_out)
        return ConfigurationPlan(name, count, tokens_in, tokens_out, input_cost, cost)

    def _without_price(self) -> Iterator[str]:
        """Configurations that have no price, where there is to be a bound."""
        for one in self._request.llm_configs if self._request.max_cost is not None else ():
            if isinstance(one, LLMConfig) and Prices.of(one) is None:
                yield f"max_cost needs the prices of {_name_of(one)!r}, and it has none"

    def _warnings(self, configurations: Sequence[ConfigurationPlan]) -> Iterator[str]:
        for text in lookalikes_in(self._messages or []):
            yield f"{text} looks like a placeholder and is none: names have letters, digits and _"
        if self._placeholders == []:
            yield "the prompt has no {{placeholders}}: it is the same for each row"
        known = sum(one.cost for one in configurations if one.cost is not None)
        most = self._request.max_cost
        if most is not None and (
            unknown := [
                _name_of(one) for one in self._request.llm_configs if not isinstance(one, LLMConfig)
            ]
        ):
            yield f"max_cost needs prices, and those of {', '.join(unknown)} are not known here"
        if most is not None and known > most:
            yield f"the cost may come to {known:.4g}, and max_cost is {most:g}"


def limits_of(
    clients: BatchOptions, options: BatchOptions | None
) -> tuple[list[RateLimit], list[RateLimit]]:
    """The limits on requests and those on items that hold for a call, its client's included."""
    both = [clients] if options is None else [clients, options]
    return (
        [one.rate_limit for one in both if one.rate_limit is not None],
        [one.item_limit for one in both if one.item_limit is not None],
    )


def checked_output_tokens(output_tokens: int | None) -> int | None:
    """The tokens of one response.

    Raises:
        InputError: They are no number of tokens.
    """
    if output_tokens is None:
        return None
    is_number = isinstance(output_tokens, int) and not isinstance(output_tokens, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_number or not 1 <= output_tokens <= 1_000_000_000:
        raise InputError(
            f"output_tokens must be a whole number of at least 1, not {shown(output_tokens)}"
        )
    return output_tokens


def _model_of(config: str | LLMConfig | int | None) -> str | None:
    return config.llm_model_name or config.name if isinstance(config, LLMConfig) else None


def _name_of(config: str | LLMConfig | int | None) -> str:
    if isinstance(config, LLMConfig):
        return config.name or f"configuration {config.id}"
    if isinstance(config, int):
        return f"configuration {config}"
    return config or "default"


def _count_criteria(request: EvaluationRequest) -> int | None:
    if request.criteria is not None:
        return len(request.criteria)
    found = request.criterion_set
    return len(found.criteria) if isinstance(found, CriterionSet) and found.criteria else None


def _seconds_under(limit: RateLimit, count: int) -> float:
    return max(0, math.ceil(count / limit.requests) - 1) * limit.period
