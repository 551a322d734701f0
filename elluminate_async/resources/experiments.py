"""``client.experiments``."""

from __future__ import annotations

import time
from typing import Any

from elluminate_async.errors import ConflictError, InputError
from elluminate_async.operations.connection import decode
from elluminate_async.operations.context import checked_seconds
from elluminate_async.operations.filters import Where, where_query
from elluminate_async.operations.jobs import follow_job, job_failure
from elluminate_async.operations.json_input import check_lookup, check_name, checked_input
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.maps import MapListing
from elluminate_async.operations.references import id_of, optional_id
from elluminate_async.operations.starting import checked_job_id
from elluminate_async.resources.base import Resource, got_or_created
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.experiments import (
    CreateExperimentRequest,
    Experiment,
    ExperimentMapSample,
    GenerationStatus,
    RunExperimentRequest,
)
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import RatingMode


class ExperimentsResource(Resource):
    """Experiments: one template on one collection with one model, and its responses.

    A ``Where`` is a mapping of column names to the values that a row may have there.
    """

    def list(
        self,
        *,
        prompt_template: PromptTemplate | int | None = None,
        collection: Collection | int | None = None,
        llm_config: LLMConfig | int | None = None,
        strict: bool = False,
    ) -> Listing[Experiment]:
        """Experiments, all or those of a template, a collection or a model.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {
            "prompt_template_id": optional_id(prompt_template, PromptTemplate, "prompt_template"),
            "collection_id": optional_id(collection, Collection, "collection"),
            "llm_config_id": optional_id(llm_config, LLMConfig, "llm_config"),
        }
        return Listing(self._connection, Experiment, "experiments", query=query, strict=strict)

    async def get(
        self, name: str | None = None, *, id: int | None = None, where: Where | None = None
    ) -> Experiment:
        """The experiment of that id or name; its responses are ``client.responses``.

        Args:
            name: Of the project's.
            id: Instead of the name.
            where: Have its results over the rows that match, ``{"kind": ["A", "B"]}``; by id only.

        Raises:
            NotFoundError: There is none.
            InputError: Neither is given, or both, or the name is no text; a filter is none.
        """
        check_lookup(name, id, "an experiment")
        cells = where_query(where)
        if cells is not None and id is None:
            raise InputError("where needs the experiment's id: pass id= and not its name")
        if id is not None:
            path = ("experiments", id_of(id, Experiment, "id"))
            query = {"categorical_filters": cells}
            return decode(Experiment, await self._connection.call("GET", *path, query=query))
        query = {"experiment_name": name}
        listing = Listing(self._connection, Experiment, "experiments", query=query)
        return await listing.named("experiment", name)

    async def create(
        self,
        name: str,
        *,
        prompt_template: PromptTemplate | int,
        collection: Collection | int,
        llm_config: LLMConfig | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        description: str = "",
        generation_params: dict[str, Any] | None = None,
        rating_version: str | None = None,
    ) -> Experiment:
        """Define an experiment without running it.

        Args:
            name: Unique in the project.
            prompt_template: Whose responses it collects.
            collection: Where the template variables are from.
            llm_config: None takes the project's default model.
            criterion_set: None takes the set linked to the template.
            description: For people.
            generation_params: Sampling, over the configuration's.
            rating_version: The judge's version; None takes the service's default.

        Raises:
            ConflictError: The name is taken.
        """
        body = _creation(
            name,
            prompt_template,
            collection,
            llm_config,
            criterion_set,
            description=description,
            generation_params=generation_params,
            rating_version=rating_version,
        )
        return await self._created(body)

    async def _created(
        self, body: CreateExperimentRequest, *, harmless: bool = False
    ) -> Experiment:
        answer = await self._connection.call("POST", "experiments", body=body, harmless=harmless)
        return decode(Experiment, answer)

    async def get_or_create(
        self,
        name: str,
        *,
        prompt_template: PromptTemplate | int,
        collection: Collection | int,
        llm_config: LLMConfig | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        description: str = "",
    ) -> tuple[Experiment, bool]:
        """The experiment of that name, or a new one; and whether it was created now.

        Raises:
            InputError: The name belongs to an experiment on another template or
                collection, whose responses would mix with these.
        """

        async def same(_: ConflictError) -> Experiment:
            existing = await self.get(name)
            _check_same(existing, prompt_template, collection)
            return existing

        body = _creation(
            name, prompt_template, collection, llm_config, criterion_set, description=description
        )
        return await got_or_created(self._created(body, harmless=True), same)

    async def run(
        self,
        experiment: Experiment | int,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        n_epochs: int = 1,
        generation_params: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Experiment:
        """Have the service generate and rate the whole collection, and wait for the end.

        Args:
            experiment: One that has not run yet.
            rating_mode: With or without the judge's reasoning.
            n_epochs: Responses for each row of the collection.
            generation_params: Sampling, over the configuration's.
            timeout: Seconds; None takes the deadline of the client's options.

        Returns:
            The experiment with its results. Responses that failed are counted in them.

        Raises:
            InputError: ``timeout`` is no finite number above 0.
            JobError: The service ended the run without success.
            OutcomeUnknownError: It had not ended in time; it goes on at the service.
        """
        id = id_of(experiment, Experiment, "experiment")
        deadline = self._connection.options.deadline
        seconds = deadline if timeout is None else checked_seconds(timeout)
        policy = self._connection.policy(deadline_at=time.monotonic() + seconds)
        with checked_input("the run"):
            body = RunExperimentRequest(
                rating_mode=rating_mode, n_epochs=n_epochs, generation_params=generation_params
            )
        path = ("experiments", id)
        answer = await self._connection.call(
            "POST", *path, "run", body=body, omit_nulls=True, policy=policy
        )
        job_id = checked_job_id(
            decode(Experiment, answer).generation_task_id, self._connection.blotted
        )
        if job_id is not None:
            status = await follow_job(
                self._connection,
                GenerationStatus,
                *path,
                "generation",
                job_id,
                operation="run",
                policy=policy,
            )
            if failure := job_failure(job_id, status.status, status.error_msg):
                raise failure
        return await self.get(id=id)

    def map(self, experiment: Experiment | int) -> Listing[ExperimentMapSample]:
        """An experiment's samples: the responses to each row of the collection, without texts.

        ``async for`` pages as it goes, ``await`` gives the whole list. It tells which responses
        there are, which failed, what they cost, and how many criteria each one meets.
        """
        return MapListing(self._connection, id_of(experiment, Experiment, "experiment"))

    async def delete(self, experiment: Experiment | int) -> None:
        """Delete an experiment and its responses."""
        await self._connection.call(
            "DELETE", "experiments", id_of(experiment, Experiment, "experiment")
        )


def _creation(
    name: str,
    prompt_template: PromptTemplate | int,
    collection: Collection | int,
    llm_config: LLMConfig | int | None,
    criterion_set: CriterionSet | int | None,
    **others: Any,
) -> CreateExperimentRequest:
    check_name(name, "an experiment")
    with checked_input("the experiment"):
        return CreateExperimentRequest(
            name=name,
            prompt_template_id=id_of(prompt_template, PromptTemplate, "prompt_template"),
            collection_id=id_of(collection, Collection, "collection"),
            criterion_set_id=optional_id(criterion_set, CriterionSet, "criterion_set"),
            llm_config_id=optional_id(llm_config, LLMConfig, "llm_config"),
            **others,
        )


def _check_same(
    existing: Experiment, prompt_template: PromptTemplate | int, collection: Collection | int
) -> None:
    wanted = {
        "prompt_template": id_of(prompt_template, PromptTemplate, "prompt_template"),
        "collection": id_of(collection, Collection, "collection"),
    }
    for what, id in wanted.items():
        found = getattr(existing, what)
        if found is not None and found.id != id:
            raise InputError(
                f"the experiment {existing.name!r} exists with another {what} "
                f"(id {found.id}, not {id}): choose another name, or pass that {what}"
            )
