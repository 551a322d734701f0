"""`EvaluationRequest`: the arguments of one evaluation, checked before anything is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from elluminate_async.batch.options import is_finite, shown
from elluminate_async.errors import InputError
from elluminate_async.evaluation.directory import journal_name
from elluminate_async.evaluation.row_keys import RowKeys, checked_keys
from elluminate_async.operations.json_input import check_name
from elluminate_async.operations.new_criteria import NewCriteria, criteria_of
from elluminate_async.operations.rating_items import checked_mode
from elluminate_async.operations.stored_items import Output, output_messages
from elluminate_async.operations.upload import ROWS_PER_UPLOAD
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criteria import CriterionIn
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate, placeholders_in
from elluminate_async.schemas.responses import Message
from elluminate_async.tables.reading import Row, Table, TableRows, length_of, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.schemas.ratings import RatingMode

Rows: TypeAlias = Iterable[Row] | AsyncIterable[Row] | Table
"""Rows with a value for each placeholder: mappings, or a table of any library."""

Prompt: TypeAlias = str | Sequence[Mapping[str, Any] | Message] | PromptTemplate | int
"""A text with ``{{placeholders}}``, chat messages, or a template or its id."""

Criteria: TypeAlias = NewCriteria | CriterionSet | int
"""Questions for the judge, or a set of them or its id."""

Configs: TypeAlias = str | LLMConfig | int | Sequence[str | LLMConfig | int]
"""Configurations, by name, object or id."""

Answers: TypeAlias = str | Iterable[Output]
"""Responses that were made elsewhere: the column that has them, or one for each row."""

MOST_EPOCHS = 1_000

FEWEST_ROWS = 20
"""Rows of an upload that is not the last, however few are generated at once."""


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The arguments of one evaluation.

    Attributes:
        rows: The inputs; None where they are those of ``collection``.
        total: Number of rows, where it is known beforehand.
        criteria: Those that were given as texts.
        criterion_set: The set that was given, or its id.
        llm_configs: Never empty; None stands for the project's default.
        answers: See `Answers`; None to have them generated.
        journal: The directory of its journals.
        max_cost: What the generations may cost; None for no bound.
        keys: The run that it belongs to, and the keys of its rows; None without a run.
    """

    rows: Iterable[Row] | AsyncIterable[Row] | None
    total: int | None
    collection: Collection | int | None
    prompt: str | list[dict[str, Any]] | PromptTemplate | int
    criteria: Sequence[CriterionIn] | None
    criterion_set: CriterionSet | int | None
    llm_configs: Sequence[str | LLMConfig | int | None]
    answers: str | Sequence[Output] | None
    name: str | None
    epochs: int
    rating_mode: RatingMode
    journal: Path | None
    max_cost: float | None = None
    keys: RowKeys | None = None

    @property
    def fan_out(self) -> int:
        """Records for each row."""
        return len(self.llm_configs) * self.epochs

    def listed(self) -> Iterable[Row] | None:
        """The rows, where they can be looked at before they are sent."""
        return self.rows if isinstance(self.rows, Sequence | TableRows) else None

    def step_options(self, options: BatchOptions) -> BatchOptions:
        """``options``, with chunks of a list small enough to keep every permit busy."""
        if self.total is None:
            return options
        # All that may be in flight has work at once; larger ones would wait for their slowest.
        size = max(1, self.total * self.fan_out // options.max_concurrency)
        # Chunks are cut where a step's bunch ends, and wait for nothing else.
        return options.replace(
            chunk_size=min(options.chunk_size, size), chunk_linger=options.deadline
        )

    def rows_at_once(self, options: BatchOptions) -> int:
        """Rows of one upload; where they are not all here, few, as five uploads are read ahead."""
        if self.total is not None:
            return ROWS_PER_UPLOAD
        in_flight = options.max_concurrency * options.chunk_size // self.fan_out
        return min(ROWS_PER_UPLOAD, max(FEWEST_ROWS, in_flight // 4))

    def step_journal(self, step: str) -> Path | None:
        """The path of one step's journal; None without any."""
        return None if self.journal is None else self.journal / journal_name(step)

    def fingerprint(self) -> dict[str, str]:
        """A short hash of each argument that a journal is bound to."""
        prompt = self.prompt.id if isinstance(self.prompt, PromptTemplate) else self.prompt
        criteria: Any = self.criteria and [one.model_dump() for one in self.criteria]
        if self.criterion_set is not None:
            criteria = getattr(self.criterion_set, "id", self.criterion_set)
        configs = [one.id if isinstance(one, LLMConfig) else one for one in self.llm_configs]
        answers = self.answers if isinstance(self.answers, str) else self.answers is not None
        parts = {
            "prompt": prompt,
            "criteria": criteria,
            "llm_configs": configs,
            "collection": getattr(self.collection, "id", self.collection),
            "responses": answers,
            "epochs": self.epochs,
            "rating_mode": self.rating_mode.value,
            "name": self.name,
        }
        if self.keys is not None:
            # Journals without a run have no such part.
            given = self.keys.given
            parts["run"] = [self.keys.run, given if isinstance(given, str) else given is not None]
        return {name: _hash(value) for name, value in parts.items()}


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def checked_request(
    rows: Rows | None,
    *,
    prompt: Prompt | None,
    criteria: Criteria | None,
    llm_configs: Configs | None,
    collection: Collection | int | None,
    responses: Answers | None,
    name: str | None,
    epochs: int,
    rating_mode: RatingMode,
    journal: Path | None,
    max_cost: float | None = None,
    run: str | None = None,
    item_keys: str | Iterable[str] | None = None,
) -> EvaluationRequest:
    """The request of these arguments.

    Raises:
        InputError: They cannot work; the text says what to pass.
    """
    if (rows is None) == (collection is None):
        raise InputError("pass either rows or collection=")
    found = None if rows is None else rows_of(rows, "rows")
    total = None if found is None else length_of(found)
    checked = _checked_prompt(prompt)
    if name is not None:
        check_name(name, "an evaluation")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or not 1 <= epochs <= MOST_EPOCHS:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"epochs must be a whole number from 1 to 1,000, not {shown(epochs)}")
    answers = None
    if responses is not None:
        answers = _checked_answers(responses, total, llm_configs, epochs)
    texts, criterion_set = _checked_criteria(criteria)
    return EvaluationRequest(
        rows=found,
        total=total,
        collection=collection,
        prompt=checked,
        criteria=texts,
        criterion_set=criterion_set,
        llm_configs=_checked_configs(llm_configs),
        answers=answers,
        name=name,
        epochs=epochs,
        rating_mode=checked_mode(rating_mode),
        journal=journal,
        max_cost=None if max_cost is None else checked_cost(max_cost, is_given=answers is not None),
        keys=checked_keys(run, item_keys, total),
    )


def checked_cost(max_cost: float, *, is_given: bool = False) -> float:
    """The most that an evaluation may cost.

    Raises:
        InputError: It is no amount, or there is nothing that costs any.
    """
    if is_given:
        raise InputError("responses= are answers that exist and cost nothing: leave out max_cost=")
    is_number = isinstance(max_cost, int | float) and not isinstance(max_cost, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_number or not is_finite(max_cost) or max_cost <= 0:
        raise InputError(f"max_cost must be a finite number above 0, not {shown(max_cost)}")
    return float(max_cost)


def _checked_prompt(prompt: object) -> str | list[dict[str, Any]] | PromptTemplate | int:
    """The prompt, its messages as plain data.

    Raises:
        InputError: It is none.
    """
    if isinstance(prompt, PromptTemplate | str) or (
        isinstance(prompt, int) and not isinstance(prompt, bool)
    ):
        return prompt
    messages: list[dict[str, Any]] = []
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes):
        for message in cast("Sequence[object]", prompt):
            if isinstance(message, Message):
                messages.append(message.model_dump(exclude_none=True))
            elif isinstance(message, Mapping):
                messages.append(dict(cast("Mapping[str, Any]", message)))
            else:
                messages = []
                break
    if not messages:
        raise InputError(
            "prompt must be a text with {{placeholders}}, a list of messages such as "
            "[{'role': 'user', 'content': 'Explain {{topic}}.'}], or a PromptTemplate or its id, "
            f"not {prompt!r:.60}"
        )
    return messages


def messages_of(
    prompt: str | Sequence[Mapping[str, Any]] | PromptTemplate | int,
) -> list[dict[str, Any]] | None:
    """The messages of a prompt; None of a template that is known by its id."""
    if isinstance(prompt, int):
        return None
    if isinstance(prompt, PromptTemplate):
        return prompt.messages
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def placeholders_of(prompt: str | Sequence[Mapping[str, Any]] | PromptTemplate) -> list[str]:
    """The names that a prompt asks of each row."""
    if isinstance(prompt, PromptTemplate):
        return prompt.placeholders
    return placeholders_in(messages_of(prompt) or [])


def _checked_criteria(
    criteria: Criteria | None,
) -> tuple[list[CriterionIn] | None, CriterionSet | int | None]:
    if criteria is None:
        return None, None
    if isinstance(criteria, CriterionSet | int):
        return None, criteria
    texts = criteria_of(criteria)
    if not texts:
        raise InputError("criteria must have at least one; None takes the template's")
    return texts, None


def _checked_configs(configs: Configs | None) -> list[str | LLMConfig | int | None]:
    if configs is None:
        return [None]
    if not isinstance(configs, str | LLMConfig | int | Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"llm_configs must be names, ids or LLMConfig objects, not {configs!r:.60}"
        )
    chosen = [configs] if isinstance(configs, str | LLMConfig | int) else [*configs]
    if not chosen:
        raise InputError("llm_configs must have at least one; None takes the project's default")
    for one in chosen:
        if isinstance(one, bool) or not isinstance(one, str | LLMConfig | int) or one == "":  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                f"llm_configs must be names, ids or LLMConfig objects, not {one!r:.60}"
            )
    keys = [one.id or one.name if isinstance(one, LLMConfig) else one for one in chosen]
    if len(set(keys)) < len(keys):
        raise InputError("llm_configs has a configuration twice: use epochs= to repeat one")
    return [*chosen]


def _checked_answers(
    answers: Answers, total: int | None, llm_configs: Configs | None, epochs: int
) -> str | list[Output]:
    """The answers by position, whatever they come in, or the column that has them.

    Raises:
        InputError: They are no answers, or not one for each row.
    """
    if llm_configs is not None or epochs != 1:
        raise InputError("responses= are answers that exist: llm_configs= and epochs= are for none")
    if isinstance(answers, str):
        return answers
    if isinstance(answers, Mapping | Set | bytes) or not isinstance(answers, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "responses= must be the name of the column that has them, or a list of one for each "
            f"row, not {answers!r:.60}"
        )
    if total is None:
        raise InputError(
            "responses= as a list needs rows as a list; else name the column that has them"
        )
    # By position: an index of labels, such as pandas has, is of another order.
    found = [*answers]
    if len(found) != total:
        raise InputError(f"there are {total} rows and {len(found)} responses")
    for position, answer in enumerate(found):
        output_messages(answer, position)
    return found
