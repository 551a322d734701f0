"""One response, generated or stored by a request of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from elluminate_async.operations.context import single_policy
from elluminate_async.operations.references import id_of
from elluminate_async.operations.response_items import ResponseSpec
from elluminate_async.operations.singles import one_response
from elluminate_async.operations.stored_items import (
    Output,
    check_metadata,
    metadata_of,
    optional_epoch,
    output_messages,
)
from elluminate_async.schemas.template_variables import TemplateVariables

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.operations.coalescing import Coalescer
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.response_items import ResponsePlan
    from elluminate_async.schemas.generation_metadata import GenerationMetadata
    from elluminate_async.schemas.responses import PromptResponse


async def generate_one(
    connection: Connection,
    coalescer: Coalescer | None,
    plan: ResponsePlan,
    template_variables: TemplateVariables | int,
    options: BatchOptions | None,
) -> PromptResponse:
    """A response that the service generates, with those of others where there is a coalescer."""
    plan.check_variables([template_variables])
    spec = ResponseSpec(template_variables)
    policy = single_policy(connection, options)
    shared = None
    if coalescer is not None:
        shared = partial(coalescer.generate, plan, spec, options, policy)
    return await one_response(
        connection, "generate", plan, spec, "generate", policy=policy, shared=shared
    )


async def add_one(
    connection: Connection,
    plan: ResponsePlan,
    response: Output,
    template_variables: TemplateVariables | int,
    metadata: GenerationMetadata | None,
    epoch: int | None,
    options: BatchOptions | None,
) -> PromptResponse:
    """A response that was made elsewhere, stored."""
    id_of(template_variables, TemplateVariables, "template_variables")
    epoch = optional_epoch(epoch)
    made = metadata_of(metadata, "metadata")
    check_metadata(made, "metadata")
    spec = ResponseSpec(template_variables, output_messages(response, 0), made, epoch)
    return await one_response(
        connection, "add", plan, spec, policy=single_policy(connection, options)
    )
