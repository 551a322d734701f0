"""Single calls that make something: one request each, whose outcome may end unknown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from elluminate_async.engine.item_errors import unknown_outcome
from elluminate_async.errors import ElluminateError, ItemError
from elluminate_async.operations.connection import decode, new_key
from elluminate_async.operations.json_input import checked_input
from elluminate_async.operations.leaving import SingleSending
from elluminate_async.operations.listing_matcher import ExperimentRows
from elluminate_async.operations.replaying import Post, replayed
from elluminate_async.operations.response_rows import outcome_of
from elluminate_async.schemas.responses import PromptResponse

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.response_items import ResponsePlan, ResponseSpec
    from elluminate_async.transport.exchange import Answer
    from elluminate_async.transport.retry import Policy

T = TypeVar("T")

_WAYS_ON = {
    "generate": "look for it with client.responses.list(experiment=...) first, as generating "
    "again may be paid for twice; generate_many with a journal finds out by itself",
    "add": "look for it with client.responses.list(experiment=...) first, as adding it again "
    "may store it twice; add_many with a journal finds out by itself",
    "add scenarios": "look for them with client.scenarios.list(...) first, as adding them again "
    "may store them twice; add_many with skip_existing=True doubles none",
    "add a field": "look for it with client.scenario_sets.get(...) first: a set has a field once, "
    "so that adding it again is refused where it is there",
    "create a project": "look for it with client.projects.get(name) first: a name is taken once, "
    "so that creating it again is refused where it is there",
    "create a prompt template": "look for it with client.prompt_templates.get(name) first, or call "
    "get_or_create, which makes none twice",
    "create a criterion set": "look for it with client.criterion_sets.get(name) first, or call "
    "get_or_create, which makes none twice",
    "create a collection": "look for it with client.collections.get(name) first, or call "
    "get_or_create, which makes none twice",
    "create an LLM configuration": "look for it with client.llm_configs.get(name) first, or call "
    "get_or_create, which makes none twice",
    "add criteria": "look for them with client.criteria.list(template) or "
    "client.criterion_sets.get(id=...) first; adding them again doubles none",
    "generate criteria": "look for them with client.criteria.list(template) first, as generating "
    "again may be paid for twice",
    "create a scenario set": "look for it with client.scenario_sets.get(name) first, or call "
    "get_or_create, which makes none twice",
    "create an experiment": "look for it with client.experiments.get(name) first: a name is taken "
    "once, so that creating it again is refused where it is there",
    "generate variables": "look for the row with client.template_variables.list(collection) first, "
    "as generating again may be paid for twice",
    "upload agent results": "look for them with client.agent_results.list(experiment) first, as "
    "an upload appends, and sending it again may store it twice",
    "rate": "look for its ratings with client.ratings.list(response) first, as rating again may "
    "be paid for twice; rate_many with a journal finds out by itself",
}


def way_on(operation: str) -> str:
    """The way to find out what became of a single call whose outcome is unknown."""
    return _WAYS_ON[operation]


@contextmanager
def one_sending(operation: str, *, response_id: int | None = None) -> Generator[None]:
    """Around one such request.

    Raises:
        OutcomeUnknownError: It was sent, and whether it was processed is not known; the text
            tells the way on.
    """
    try:
        yield
    except ElluminateError as error:
        if error.ambiguous:
            raise unknown_outcome(
                error, operation, response_id=response_id, way_on=way_on(operation)
            ) from None
        raise


async def send_single(
    connection: Connection,
    operation: str,
    post: Post,
    read: Callable[[Answer], T],
    policy: Policy,
    response_id: int | None = None,
) -> T:
    """The answer to one such request of a model, as ``read`` has it.

    Where its caller leaves early the service is told to abandon it.

    Raises:
        OutcomeUnknownError: As `one_sending` does.
    """
    sending = SingleSending(new_key())

    def may_cost() -> bool:
        # What is stored calls no model.
        return sending.is_out and bool(post.items)

    with one_sending(operation, response_id=response_id):
        async with connection.work.awaited(
            *post.segments, key=sending.key, is_chunk=False, is_out=may_cost
        ):
            return await replayed(connection, post, read, policy, sending)


async def make(
    connection: Connection,
    operation: str,
    post: Post,
    read: Callable[[Answer], T],
    policy: Policy | None = None,
) -> T:
    """Make something by ``post``, once; the answer as ``read`` has it.

    Raises:
        OutcomeUnknownError: As `one_sending` does; not where it is harmless, as then the same
            call again finds what there is.
    """
    sending = SingleSending(new_key())
    with nullcontext() if post.harmless else one_sending(operation):
        return await replayed(connection, post, read, policy or connection.policy(), sending)


async def one_response(
    connection: Connection,
    operation: str,
    plan: ResponsePlan,
    spec: ResponseSpec,
    *path: str,
    policy: Policy,
    shared: Callable[[], Awaitable[PromptResponse | None]] | None = None,
) -> PromptResponse:
    """Make one response of ``plan``, or store it.

    Where ``shared`` gives it, made with those of others, nothing is sent for it here.

    Raises:
        GenerationError: The model gave no answer.
        OutcomeUnknownError: Sent, and whether it was processed is not known.
    """
    with connection.telemetry.call(operation, kind="single", total=1) as observed:
        if shared is not None and (response := await shared()) is not None:
            return connection.telemetry.came(observed, response)
        rows = connection.kept(ExperimentRows, plan.experiment_id)
        # Numbered with the batches', so that none of them takes this row for its own.
        epoch = spec.epoch or (rows.number([spec.variables_id])[0].epoch if rows else 1)
        with checked_input("the response"):
            body = plan.body(spec, epoch=epoch)
        # What is stored calls no model.
        post = Post(("responses", *path), body, items=1 if operation == "generate" else 0)
        row = await send_single(
            connection, operation, post, partial(decode, PromptResponse), policy
        )
        outcome = outcome_of(0, row, operation, connection.blotted)
        # What is raised takes this frame along, and is to hold nothing that the row says.
        del row
        if isinstance(outcome, ItemError):
            raise outcome
        return connection.telemetry.came(observed, outcome)
