"""Responses and the prompts they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from elluminate_async.schemas import GenerationMetadata
from elluminate_async.schemas.prices import cost_of_tokens
from elluminate_async.server.store import at_work, counts, documents, paging, sizes, tables
from elluminate_async.server.store.rows import (
    AnySelect,
    digest,
    fetch,
    now,
    row_by_id,
    run_many,
    select_in,
)
from elluminate_async.server.store.wire_json import (
    WireText,
    dump,
    dump_or_none,
    ids_text,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from elluminate_async.schemas import LLMConfig
    from elluminate_async.server.store.rows import PageRequest

table = tables.responses
prompts = tables.prompts

_BOUNDED = ("duration_seconds", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class ResponseFilter:
    """The filters of a listing; None does not limit.

    Attributes:
        bounds: ``<column>_min`` and ``<column>_max`` of durations and token counts.
    """

    experiment_id: int | None = None
    prompt_template_id: int | None = None
    template_variables_id: int | None = None
    collection_id: int | None = None
    prompt_id: int | None = None
    llm_model_name: str | None = None
    epoch: int | None = None
    response_ids: tuple[int, ...] | None = None
    bounds: tuple[tuple[str, float], ...] = ()


def page(
    connection: Connection,
    project_id: int,
    wanted: ResponseFilter,
    request: PageRequest,
    seed: int | None,
) -> WireText:
    """One page of finished responses; with a seed, in an order that only the seed knows.

    All pages of a listing are of one length, in which the largest rows that it may have fit.
    """
    largest = sizes.largest_response(
        connection, project_id, wanted.experiment_id, wanted.response_ids
    )
    request = sizes.fitting(request, largest)
    place = (request.start, request.size)
    if seed is None and wanted == ResponseFilter(experiment_id=wanted.experiment_id):
        shown, count = counts.finished_ids(connection, project_id, wanted.experiment_id, *place)
    elif seed is None and wanted.response_ids is None and not _is_of_few(connection, wanted):
        stamps = counts.stamps(connection, project_id, wanted.experiment_id)
        # The stamps are of this project's experiments only, which indexes do not tell.
        owner = project_id if wanted.experiment_id is None else None
        listed = paging.Listed(
            (project_id, wanted),
            table.c.id,
            _matching(owner, wanted),
            _matching(owner, wanted, in_order=True),
        )
        shown, count = paging.page(connection, listed, stamps, *place)
    else:
        ids = _find_ids(connection, project_id, wanted)
        if seed is not None:
            ids.sort(key=lambda row_id: digest(seed, row_id))
        shown, count = request.of(ids), len(ids)
    found = documents.responses(connection, project_id, shown)
    items = ",".join(found[row_id] for row_id in shown)
    return WireText(f'{{"items":[{items}],"count":{count}}}')


_OF_ROW = """
SELECT count(*) FROM (SELECT 1 FROM responses
WHERE experiment_id = ? AND template_variables_id = ? AND is_ready LIMIT ?)"""


def _is_of_few(connection: Connection, wanted: ResponseFilter) -> bool:
    """Whether it is of the responses to one row, few enough to look at each for every page."""
    if wanted.experiment_id is None or wanted.template_variables_id is None:
        return False
    place = (wanted.experiment_id, wanted.template_variables_id, paging.MOST_SORTED + 1)
    return fetch(connection, _OF_ROW, *place)[0][0] <= paging.MOST_SORTED


_FINISHED = """
SELECT r.id FROM json_each(?) AS wanted CROSS JOIN responses AS r ON r.id = wanted.value
WHERE +r.project_id = ? AND r.is_ready ORDER BY r.id"""


def _find_ids(connection: Connection, project_id: int, wanted: ResponseFilter) -> list[int]:
    """Ids of finished responses in the order their jobs were accepted: the inputs' order."""
    limited = _matching(project_id, wanted)
    if wanted.response_ids is None:
        # Sorted here: an index in this order would be walked through for the few that match.
        return sorted(connection.scalars(limited))
    if wanted == ResponseFilter(response_ids=wanted.response_ids):
        ids = ids_text(set(wanted.response_ids))
        return [row.id for row in fetch(connection, _FINISHED, ids, project_id)]
    return sorted(row.id for row in select_in(connection, limited, table.c.id, wanted.response_ids))


def _matching(
    project_id: int | None, wanted: ResponseFilter, *, in_order: bool = False
) -> AnySelect:
    """Ids of what a filter wants; with ``in_order`` no index but that of ids is of use."""
    entries = tables.entries
    query = select(table.c.id).where(paging.READY)
    if project_id is not None:
        # A sum keeps an index on the project from being taken instead of those of the filters.
        query = query.where(table.c.project_id + 0 == project_id)
    # Within an experiment an index has the row; elsewhere the prompts' has it.
    of_row = table if wanted.experiment_id is not None else prompts
    through_prompt = (
        (prompts.c.prompt_template_id, wanted.prompt_template_id),
        (
            prompts.c.template_variables_id,
            wanted.template_variables_id if of_row is prompts else None,
        ),
        (entries.c.collection_id, wanted.collection_id),
    )
    if any(value is not None for _, value in through_prompt):
        query = query.join(prompts, prompts.c.id == table.c.prompt_id)
    if wanted.collection_id is not None:
        query = query.join(entries, entries.c.id == prompts.c.template_variables_id)
    for column, value in through_prompt:
        if value is not None:
            query = query.where((column + 0 if in_order else column) == value)
    own = (
        (table.c.experiment_id, wanted.experiment_id),
        (table.c.template_variables_id, wanted.template_variables_id if of_row is table else None),
        (table.c.prompt_id, wanted.prompt_id),
        (table.c.llm_model_name, wanted.llm_model_name),
        (table.c.epoch, wanted.epoch),
    )
    for column, value in own:
        if value is not None:
            query = query.where(column == value)
    return query.where(*within(wanted.bounds))


def within(bounds: Iterable[tuple[str, float]]) -> list[ColumnElement[bool]]:
    """Conditions of the bounds of a `ResponseFilter`."""
    given = dict(bounds)
    conditions: list[ColumnElement[bool]] = []
    for name in _BOUNDED:
        if (low := given.get(f"{name}_min")) is not None:
            conditions.append(table.c[name] >= low)
        if (high := given.get(f"{name}_max")) is not None:
            conditions.append(table.c[name] <= high)
    return conditions


def get(connection: Connection, project_id: int, response_id: int) -> WireText:
    """One response with its ratings."""
    row_by_id(connection, table, project_id, "response", response_id)
    return WireText(documents.responses(connection, project_id, [response_id])[response_id])


def annotate(
    connection: Connection, project_id: int, response_id: int, annotation: str
) -> WireText:
    """Set a response's annotation.

    Raises:
        Problem: 409 for a failed one that a retry is about to replace: what is said of it would be
            said of its successor.
    """
    row = row_by_id(connection, table, project_id, "response", response_id)
    at_work.require_unreplaced(connection, response_id)
    documents_of = (row.messages, row.llm_model_config, row.custom_api_info, row.trajectory)
    texts = (*map(dump_or_none, documents_of), row.error, row.trajectory_ingest_error, annotation)
    sizes.note(connection, "answer", [(response_id, texts)])
    connection.execute(update(table).where(table.c.id == response_id).values(annotation=annotation))
    return get(connection, project_id, response_id)


def remove(connection: Connection, project_id: int, response_id: int) -> None:
    """Delete one, with its ratings."""
    row_by_id(connection, table, project_id, "response", response_id)
    connection.execute(delete(table).where(table.c.id == response_id))


@dataclass(frozen=True, slots=True)
class GeneratedResponse:
    """The result of one generation: messages, or the error why there are none.

    Attributes:
        messages: The output.
        error: Why there is none.
        config: The configuration that was used.
        prices: One whose prices hold where ``config`` has none.
        custom_api_info: Of a custom endpoint that answered elsewhere.
        duration_seconds: Of the model's call.
    """

    messages: list[dict[str, Any]]
    error: str | None
    config: LLMConfig | None
    duration_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    prices: LLMConfig | None = None
    custom_api_info: dict[str, Any] | None = None


def uploaded(
    messages: list[dict[str, Any]], metadata: GenerationMetadata | None, prices: LLMConfig | None
) -> GeneratedResponse:
    """A response that is stored as given; ``prices`` as of `GeneratedResponse`."""
    known = metadata or GenerationMetadata()
    return GeneratedResponse(
        messages=messages,
        error=None,
        config=known.llm_model_config,
        duration_seconds=known.duration_seconds,
        input_tokens=known.input_tokens,
        output_tokens=known.output_tokens,
        reasoning_tokens=known.reasoning_tokens,
        cached_tokens=known.cached_tokens,
        prices=prices,
        custom_api_info=known.custom_api_info,
    )


@dataclass(frozen=True, slots=True)
class NewRow:
    """A response to be made; without an answer it waits to be generated.

    Attributes:
        is_hidden: Whether it is not there yet, also with an answer.
    """

    id: int
    experiment_id: int
    prompt_id: int
    template_variables_id: int
    llm_config_id: int
    epoch: int
    answer: GeneratedResponse | None
    is_hidden: bool = False
    item_key: str | None = None


_ANSWER_COLUMNS = (
    "messages", "llm_model_config", "llm_model_name", "duration_seconds", "input_tokens",
    "output_tokens", "reasoning_tokens", "cached_tokens", "input_cost_usd", "output_cost_usd",
    "custom_api_info", "error", "created_at", "is_ready",
)  # fmt: skip
_COLUMNS = (
    *_ANSWER_COLUMNS, "id", "project_id", "experiment_id", "prompt_id", "template_variables_id",
    "llm_config_id", "epoch", "annotation", "item_key",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO responses ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)})"
)
_COMPLETE = (
    f"UPDATE responses SET {', '.join(f'{name} = ?' for name in _ANSWER_COLUMNS)} "
    "WHERE id = ? AND (NOT is_ready OR error IS NOT NULL)"
)


def insert_all(connection: Connection, project_id: int, rows: Iterable[NewRow]) -> None:
    """Make rows."""
    columns = _columns_of(time_text(now()))
    none = GeneratedResponse([], None, None)
    made = [
        (
            *columns(row.answer or none, is_ready=row.answer is not None and not row.is_hidden),
            row.id,
            project_id,
            row.experiment_id,
            row.prompt_id,
            row.template_variables_id,
            row.llm_config_id,
            row.epoch,
            "",
            row.item_key,
        )
        for row in rows
    ]
    run_many(connection, _INSERT, made)
    sizes.note(connection, "answer", map(_texts_of, made))


def complete(connection: Connection, answers: Iterable[tuple[int, GeneratedResponse]]) -> None:
    """Give waiting rows, and such as failed before, named by their ids, their answers."""
    columns = _columns_of(time_text(now()))
    given = [(*columns(answer, is_ready=True), response_id) for response_id, answer in answers]
    run_many(connection, _COMPLETE, given)
    sizes.note(connection, "answer", map(_texts_of, given))


_ID = len(_ANSWER_COLUMNS)
_TEXTS = [
    _ANSWER_COLUMNS.index(name)
    for name in ("messages", "llm_model_config", "error", "custom_api_info")
]


def _texts_of(row: tuple[Any, ...]) -> tuple[int, Sequence[str | None]]:
    return row[_ID], [row[place] for place in _TEXTS]


def _columns_of(time: str) -> Callable[..., tuple[Any, ...]]:
    """A maker of `_ANSWER_COLUMNS`, which writes down each configuration once."""
    configs: dict[int, tuple[LLMConfig, str]] = {}

    def columns(answer: GeneratedResponse, *, is_ready: bool) -> tuple[Any, ...]:
        config, other = answer.config, answer.prices
        text = None
        if config is not None:
            if id(config) not in configs:
                configs[id(config)] = (config, config.model_dump_json())
            text = configs[id(config)][1]
        return (
            dump(answer.messages),
            text,
            None if config is None else config.llm_model_name,
            answer.duration_seconds,
            answer.input_tokens,
            answer.output_tokens,
            answer.reasoning_tokens,
            answer.cached_tokens,
            cost_of_tokens(
                answer.input_tokens,
                config and config.input_price_per_mtok,
                other and other.input_price_per_mtok,
            ),
            cost_of_tokens(
                answer.output_tokens,
                config and config.output_price_per_mtok,
                other and other.output_price_per_mtok,
            ),
            dump_or_none(answer.custom_api_info),
            answer.error,
            time,
            is_ready,
        )

    return columns
