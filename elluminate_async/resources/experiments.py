"""``client.experiments``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from elluminate_async.errors import ConflictError, InputError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.connection import decode
from elluminate_async.operations.experiment_jobs import ExperimentJobs
from elluminate_async.operations.experiment_requests import (
    copy_of,
    creation_of,
)
from elluminate_async.operations.experiment_runs import ExperimentRuns
from elluminate_async.operations.experiment_starts import JobStart
from elluminate_async.operations.filters import categories_query
from elluminate_async.operations.json_input import (
    check_lookup,
    checked_params,
    json_object,
)
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.maps import MapListing
from elluminate_async.operations.references import check_same, id_of, optional_id
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, got_or_created
from elluminate_async.schemas.collections import Collection, Column
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.experiments import (
    CreateExperimentRequest,
    EvaluationMode,
    Experiment,
    ExperimentMapSample,
)
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import RatingMode
from elluminate_async.schemas.scenario_sets import ScenarioSet


class ExperimentsResource(Resource, ExperimentRuns):
    """Experiments: one template on one collection with one model, and its responses.

    An ``EvaluationMode`` is one of STANDARD, AGENTIC and MULTI_TURN.
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
        self,
        name: str | None = None,
        *,
        id: int | None = None,
        categorical_filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Experiment:
        """The experiment of that id or name; its responses are ``client.responses``.

        Args:
            name: Its name.
            id: Its id.
            categorical_filters: Have its results be those of the rows that have one of the values
                in each of these columns; with ``id`` only.

        Raises:
            NotFoundError, RejectedError: There is none; or no column that a filter names.
            InputError: Neither is given, or both, or the name is no text; or a filter names no
                list of texts.
        """
        check_lookup(name, id, "an experiment")
        if id is not None:
            number = id_of(id, Experiment, "id")
            query = {"categorical_filters": categories_query(categorical_filters)}
            answer = await self._connection.call("GET", "experiments", number, query=query)
            return decode(Experiment, answer)
        if categorical_filters is not None:
            raise InputError("categorical_filters= goes with id=, not with a name")
        query = {"experiment_name": name}
        listing = Listing(self._connection, Experiment, "experiments", query=query)
        return await listing.named("experiment", name)

    async def create(
        self,
        name: str,
        *,
        prompt_template: PromptTemplate | int | None = None,
        collection: Collection | int | None = None,
        llm_config: LLMConfig | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        description: str = "",
        generation_params: Mapping[str, Any] | None = None,
        rating_version: str | None = None,
        response_column: Column | int | None = None,
        evaluation_mode: EvaluationMode = "STANDARD",
        agent_config: Mapping[str, Any] | None = None,
        evaluation_agent_config: Mapping[str, Any] | None = None,
        persona_group: int | None = None,
        scenario_set: ScenarioSet | int | None = None,
        generate: bool = False,
        rating_mode: RatingMode = RatingMode.DETAILED,
        n_epochs: int = 1,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Experiment:
        """Define an experiment; with ``generate``, also `run` it and wait for the end.

        Args:
            name: Unique in the project.
            prompt_template: Whose responses it collects; None where the rows have whole prompts,
                or an agent works on them.
            collection: Where the template variables are from; exclusive with ``scenario_set``.
            llm_config: None takes the project's default model.
            criterion_set: None takes the set linked to the template.
            description: For people.
            generation_params: Sampling, over the configuration's: ``temperature`` (0 to 2) or
                ``reasoning_effort``, ``verbosity``, ``top_p`` (0 to 1), ``max_tokens``,
                ``max_connections``.
            rating_version: The judge's version; None takes the service's default, and so does the
                service where it has none of that name. `Experiment.rating_version` tells which.
            response_column: The column of the collection, or its id, whose texts are the
                responses: nothing is generated, and there is one for each row.
            evaluation_mode: How responses come about.
            agent_config: Of the agent that is evaluated.
            evaluation_agent_config: Of the agent that evaluates it.
            persona_group: Id of the group whose personas hold the conversations of
                ``MULTI_TURN``, which needs one, as no other mode may have.
            scenario_set: What the personas want, in the place of a collection. The experiment
                shows it as its ``collection``.
            generate: Whether it is run at once, as by `run`.
            rating_mode: As of `run`.
            n_epochs: Responses for each row: of this run, or of one by `run`.
            wait: As of `run`; without ``generate`` there is nothing to wait for.
            timeout: As of `run`; without ``generate`` it bounds nothing.

        Raises:
            ConflictError: The name is taken.
            InputError: An argument cannot work.
            JobError: It was run, and the service ended that without success.
            OutcomeUnknownError: It was sent, and whether it was created is not known; or it was
                to be run, and as of `run`.
        """
        body = creation_of(
            name,
            prompt_template,
            collection,
            llm_config,
            criterion_set,
            description=description,
            generation_params=checked_params(generation_params),
            rating_version=rating_version,
            response_column_id=optional_id(response_column, Column, "response_column"),
            evaluation_mode=evaluation_mode,
            agent_config=json_object(agent_config, "agent_config"),
            evaluation_agent_config=json_object(evaluation_agent_config, "evaluation_agent_config"),
            persona_group_id=persona_group,
            scenario_set_id=optional_id(scenario_set, ScenarioSet, "scenario_set"),
            generate=generate,
            rating_mode=rating_mode,
            n_epochs=n_epochs,
        )
        wait = flag(wait, "wait")
        jobs = ExperimentJobs(self._connection, timeout)
        if not generate:
            return await self._created(body)
        start = JobStart("run", ("experiments",), body, experiment=name)
        return await jobs.done(start, wait=wait)

    async def clone(
        self,
        experiment: Experiment | int,
        name: str,
        *,
        llm_config: LLMConfig | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        description: str | None = None,
        rating_version: str | None = None,
    ) -> Experiment:
        """Define another experiment as that one is defined, but for what is given; not run yet.

        Args:
            experiment: Whose definition it has, generation parameters included; not its
                responses.
            name: Unique in the project.
            llm_config: None takes the same.
            criterion_set: None takes the same.
            description: None takes the same.
            rating_version: None takes the same.

        Raises:
            ConflictError: The name is taken.
            NotFoundError: Its configuration was deleted, and no other one is given.
            InputError: It is on a scenario set, which it does not tell.
            OutcomeUnknownError: It was sent, and whether it was created is not known.
        """
        if not isinstance(experiment, Experiment):
            experiment = await self.get(id=experiment)
        changes = {
            "llm_config_id": optional_id(llm_config, LLMConfig, "llm_config"),
            "criterion_set_id": optional_id(criterion_set, CriterionSet, "criterion_set"),
            "description": description,
            "rating_version": rating_version,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        return await self._created(copy_of(experiment, name, **given))

    async def _created(
        self, body: CreateExperimentRequest, *, harmless: bool = False
    ) -> Experiment:
        post = Post(("experiments",), body, harmless=harmless)
        read = partial(decode, Experiment)
        return await make(self._connection, "create an experiment", post, read)

    async def get_or_create(
        self,
        name: str,
        *,
        prompt_template: PromptTemplate | int,
        collection: Collection | int,
        llm_config: LLMConfig | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        description: str = "",
        generation_params: Mapping[str, Any] | None = None,
        rating_version: str | None = None,
        response_column: Column | int | None = None,
        n_epochs: int = 1,
    ) -> tuple[Experiment, bool]:
        """The experiment of that name, or a new one as of `create`; and whether it was created now.

        Raises:
            InputError: The name belongs to an experiment on another template or collection, model
                or criterion set, or with other generation parameters or another response column
                than are given: its responses would mix with these. What is None is not compared,
                nor are ``description``, ``rating_version`` and ``n_epochs``.
        """

        async def same(_: ConflictError) -> Experiment:
            existing = await self.get(name)
            check_same(existing, body)
            return existing

        body = creation_of(
            name,
            prompt_template,
            collection,
            llm_config,
            criterion_set,
            description=description,
            generation_params=checked_params(generation_params),
            rating_version=rating_version,
            response_column_id=optional_id(response_column, Column, "response_column"),
            n_epochs=n_epochs,
        )
        return await got_or_created(self._created(body, harmless=True), same)

    def map(self, experiment: Experiment | int) -> Listing[ExperimentMapSample]:
        """An experiment's samples: the responses to each row of the collection, without texts.

        ``async for`` pages as it goes, ``await`` gives the whole list. It tells which responses
        there are, which failed, what they cost, and how many criteria each one meets.
        """
        return MapListing(self._connection, id_of(experiment, Experiment, "experiment"))

    async def delete(self, experiment: Experiment | int) -> None:
        """Delete an experiment and its responses."""
        await self._delete("experiments", id_of(experiment, Experiment, "experiment"))
