"""Responses whose answer is over the client's cap, asked for in smaller parts until it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from elluminate_async.errors import AnswerTooLargeError
from elluminate_async.operations.connection import decode
from elluminate_async.operations.listing import Listing, Query
from elluminate_async.operations.references import id_of
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.template_variables import TemplateVariables

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy


def list_responses(
    connection: Connection, query: Query, *, policy: Policy | None = None, strict: bool = False
) -> Listing[PromptResponse]:
    """A listing of responses; a page that is over the cap does not end it."""
    return Listing(
        connection,
        PromptResponse,
        "responses",
        query=query,
        policy=policy,
        strict=strict,
        parts=partial(_parts, connection, policy),
    )


def list_entries(
    connection: Connection, collection: Collection | int | None, policy: Policy | None
) -> Listing[TemplateVariables]:
    """All rows of a collection; one left out would shift the positions of those behind it."""
    path = ("collections", id_of(collection, Collection, "collection"), "entries")
    return Listing(connection, TemplateVariables, *path, policy=policy, strict=True)


async def _parts(
    connection: Connection, policy: Policy | None, query: Query, error: AnswerTooLargeError
) -> AsyncIterator[Query]:
    """Of ids each half of them; else the responses to each entry of the collection.

    Raises:
        AnswerTooLargeError: It is about one response, or there is no smaller part.
    """
    ids = query.get("response_ids")
    if isinstance(ids, Sequence) and len(ids) > 1:
        middle = len(ids) // 2
        yield {**query, "response_ids": ids[:middle]}
        yield {**query, "response_ids": ids[middle:]}
        return
    collection = query.get("collection_id")
    if query.get("template_variables_id") is None and ids is None:
        if collection is None and (experiment_id := query.get("experiment_id")) is not None:
            answer = await connection.call("GET", "experiments", str(experiment_id), policy=policy)
            collection = getattr(decode(Experiment, answer).collection, "id", None)
        if collection is not None:
            async for entry in list_entries(connection, int(str(collection)), policy):
                yield {**query, "template_variables_id": entry.id}
            return
    raise error
