"""Each capability of the official 1.5.2 is here, and a test shows what it does on a service.

They go by the parts of its public surface, and are numbered through.
"""

from __future__ import annotations

import ast
import re
from functools import cache, reduce
from pathlib import Path
from typing import NamedTuple

import pytest

import elluminate_async
from elluminate_async import AsyncClient

_TESTS = Path(__file__).parents[1]
_EFFECTS = "resources/test_effects.py"
_TEMPLATES = f"{_EFFECTS}::test_templates"
_CRITERIA = f"{_EFFECTS}::test_criteria"
_SETS = f"{_EFFECTS}::test_criterion_sets"
_COLLECTIONS = f"{_EFFECTS}::test_collections"
_ROWS = f"{_EFFECTS}::test_rows"
_CONFIGS = f"{_EFFECTS}::test_llm_configs"
_EXPERIMENTS = f"{_EFFECTS}::test_experiments"
_RESPONSES = f"{_EFFECTS}::test_responses_and_ratings"
_JOBS = "flow/test_experiment_jobs.py"
_READS = "server/test_server_reads.py"
_SCENARIOS = "resources/test_scenarios.py"
_AGENTS = "resources/test_agents.py::test_results_are_uploaded_and_judged"


class Feature(NamedTuple):
    """One capability.

    Attributes:
        what: In words.
        here: The names that have it: of a client, or of the package.
        shown: Tests of its effect, as ``file::name``; each name of ``here`` is used in one of
            them.
        local: Why there is no effect to be seen, where there is none.
    """

    what: str
    here: tuple[str, ...]
    shown: tuple[str, ...] = ()
    local: str = ""


def one(what: str, here: str, *shown: str, local: str = "") -> Feature:
    """A feature; ``here`` has its names with a blank between."""
    return Feature(what, tuple(here.split()), shown, local)


FEATURES = [
    one(
        "a client made of address, credential, project and proxy",
        "AsyncClient",
        "flow/test_misuse.py::test_a_project_is_chosen_by_id_or_name",
        "test_config.py::test_an_argument_wins_over_the_environment_and_the_file",
        "transport/test_proxy.py::test_a_tunnel_and_nothing_in_clear",
    ),
    one("closing", "client.close", "flow/test_cancel.py::test_no_request_leaves_after_close"),
    one(
        "asking whether the service takes this client",
        "client.compatibility",
        "flow/test_misuse.py::test_the_version_check_can_be_left_out",
        "flow/test_misuse.py::test_a_service_without_a_version_check",
    ),
    one("a line that tells of a client", "client.__repr__", local="repr() sends nothing"),
    one(
        "listing, choosing and making projects",
        "client.projects.list client.projects.get client.projects.create client.projects.current",
        f"{_EFFECTS}::test_projects",
    ),
    one(
        "bounds of attempts and waits",
        "BatchOptions",
        "flow/test_retry.py::test_max_attempts_of_one_never_sends_again",
        "flow/test_retry.py::test_a_429_is_waited_out_and_costs_no_attempt",
    ),
    # Templates.
    one("a template", "client.prompt_templates.create", _TEMPLATES),
    one("a template by name, version or id", "client.prompt_templates.get", _TEMPLATES),
    one("a template, made if it is not there", "client.prompt_templates.get_or_create", _TEMPLATES),
    one("all templates", "client.prompt_templates.list", _TEMPLATES),
    one("deleting a template", "client.prompt_templates.delete", _TEMPLATES),
    one("the next version of a template", "client.prompt_templates.create", _TEMPLATES),
    one(
        "a template filled in",
        "PromptTemplate.render_messages",
        _TEMPLATES,
        local="it sends nothing",
    ),
    one("criteria proposed", "client.criteria.generate_many", _CRITERIA),
    one("criteria, proposed if there are none", "client.criteria.get_or_generate_many", _CRITERIA),
    one("a template's criteria", "client.criteria.list", _CRITERIA),
    # Collections and rows.
    one(
        "a collection",
        "client.collections.create",
        _COLLECTIONS,
        "resources/test_validity.py::test_collections_keep_what_they_are_given",
    ),
    one(
        "a collection by name or id, and its rows",
        "client.collections.get client.template_variables.list",
        _COLLECTIONS,
        _ROWS,
    ),
    one("a collection, made if it is not there", "client.collections.get_or_create", _COLLECTIONS),
    one("all collections, or those that fit a template", "client.collections.list", _COLLECTIONS),
    one("deleting a collection", "client.collections.delete", _COLLECTIONS),
    one(
        "changing a collection",
        "client.collections.update",
        _COLLECTIONS,
        "resources/test_validity.py::test_collections_keep_what_they_are_given",
    ),
    one(
        "many rows, without those that are there",
        "client.template_variables.add_many",
        _ROWS,
        "flow/test_existing_rows.py::test_it_is_the_row_that_exists",
    ),
    one("the rows", "client.template_variables.list", _ROWS),
    one("deleting all rows", "client.template_variables.delete_all", _ROWS),
    one("a row by a model", "client.template_variables.generate", _ROWS),
    one(
        "one row",
        "client.template_variables.add_to_collection client.template_variables.get "
        "client.template_variables.update client.template_variables.delete",
        _ROWS,
        "resources/test_validity.py::test_rows_are_changed",
    ),
    one(
        "a conversation as a cell",
        "client.template_variables.add_to_collection",
        f"{_EFFECTS}::test_a_conversation_is_kept_as_it_was_given",
    ),
    # Criterion sets.
    one("a set of criteria", "client.criterion_sets.create", _SETS),
    one("a set by name or id", "client.criterion_sets.get", _SETS),
    one("a set, made if it is not there", "client.criterion_sets.get_or_create", _SETS),
    one(
        "all sets, and deleting one",
        "client.criterion_sets.list client.criterion_sets.delete",
        _SETS,
    ),
    one("more criteria of a set", "client.criteria.add_many", _SETS),
    one("emptying a set", "client.criteria.add_many", _SETS),
    one(
        "a set for a template, and no more",
        "client.criterion_sets.link_template client.criterion_sets.unlink_template",
        _SETS,
    ),
    one(
        "one criterion",
        "client.criteria.get client.criteria.update client.criteria.delete",
        _CRITERIA,
    ),
    # Configurations of models.
    one("a configuration", "client.llm_configs.create", _CONFIGS),
    one("a configuration by name or id", "client.llm_configs.get", _CONFIGS),
    one("a configuration, made if it is not there", "client.llm_configs.get_or_create", _CONFIGS),
    one(
        "deleting a configuration, and all of them",
        "client.llm_configs.delete client.llm_configs.list",
        _CONFIGS,
    ),
    # Experiments.
    one(
        "an experiment",
        "client.experiments.create",
        _EXPERIMENTS,
        "resources/test_validity.py::test_responses_of_a_column_are_rated",
        f"{_SCENARIOS}::test_sets_and_their_fields",
    ),
    one(
        "an experiment made, run and rated at once",
        "client.evaluate",
        "evaluation/test_evaluate.py::test_each_row_has_its_record",
        "evaluation/test_evaluate.py::test_texts_do_not_change_the_template_s_criteria",
    ),
    one(
        "the same, seen as it goes",
        "client.experiments.stream_run client.experiments.stream",
        f"{_JOBS}::test_a_stream_tells_progress_logs_and_the_end",
        f"{_JOBS}::test_a_watcher_leaves_the_job_alone",
    ),
    one(
        "an experiment by name or id, of some rows only",
        "client.experiments.get",
        _EXPERIMENTS,
        f"{_READS}::test_results_of_some_rows",
    ),
    one("all experiments", "client.experiments.list", _EXPERIMENTS),
    one("deleting an experiment", "client.experiments.delete", _EXPERIMENTS),
    one(
        "samples of two experiments, side by side",
        "client.responses.compare_samples",
        f"{_READS}::test_compared_samples",
    ),
    one("an experiment, made if it is not there", "client.experiments.get_or_create", _EXPERIMENTS),
    one("an experiment's responses at a glance", "client.experiments.map", f"{_READS}::test_map"),
    one("running an experiment", "client.experiments.run", _EXPERIMENTS),
    one(
        "generating what has failed once more",
        "client.experiments.retry_failed",
        f"{_JOBS}::test_a_retry_asks_for_what_failed_and_for_nothing_else",
        f"{_JOBS}::test_annotations_are_not_lost_unasked",
    ),
    one("an experiment like another", "client.experiments.clone", _EXPERIMENTS),
    one("an experiment's responses", "client.responses.list", _EXPERIMENTS),
    one(
        "responses that were made elsewhere",
        "client.responses.add_many",
        "flow/test_order.py::test_stored_responses_keep_their_positions",
    ),
    one(
        "rating responses",
        "client.ratings.rate_many",
        "flow/test_ratings.py::test_ratings_are_the_responses_own",
    ),
    one(
        "results, and a summary of them",
        "Evaluation.summary",
        _EXPERIMENTS,
        "evaluation/test_measures.py::test_a_summary_counts_verdicts_and_never_a_failure",
    ),
    # Responses and ratings.
    one(
        "ratings as they come",
        "client.ratings.stream_rate_many",
        "flow/test_ratings.py::test_ratings_follow_generation_in_one_pipeline",
    ),
    one("a response's text", "PromptResponse.response_str", local="it sends nothing"),
    one(
        "one response, by a model or given",
        "client.responses.generate client.responses.add",
        _RESPONSES,
    ),
    one(
        "many responses by a model",
        "client.responses.generate_many",
        "flow/test_order.py::test_a_collection_can_stand_for_its_rows",
    ),
    one(
        "many responses that are given",
        "client.responses.add_many",
        "flow/test_order.py::test_stored_responses_keep_their_positions",
    ),
    one(
        "responses by filters, or one by id",
        "client.responses.list client.responses.get",
        f"{_READS}::test_filters_of_responses",
        _RESPONSES,
    ),
    one(
        "samples, statistics, notes and deleting",
        "client.responses.samples client.responses.stats client.responses.update "
        "client.responses.delete",
        f"{_READS}::test_samples",
        f"{_READS}::test_stats",
        _RESPONSES,
    ),
    one(
        "ratings of one response and of many",
        "client.ratings.list client.ratings.rate client.ratings.rate_many",
        _RESPONSES,
        "flow/test_ratings.py::test_ratings_are_the_responses_own",
    ),
    # The helper of one call.
    one(
        "an evaluation in one call",
        "client.evaluate",
        "evaluation/test_evaluate.py::test_the_template_s_own_criteria_are_taken",
        "evaluation/test_evaluate.py::test_a_collection_may_stand_for_the_rows",
    ),
    one("forgetting the module's own client", "", local="there is none: a client is the caller's"),
    # Scenario sets.
    one(
        "scenario sets",
        "client.scenario_sets.create client.scenario_sets.get client.scenario_sets.list "
        "client.scenario_sets.delete",
        f"{_SCENARIOS}::test_sets_and_their_fields",
    ),
    one(
        "their fields",
        "client.scenario_sets.add_field client.scenario_sets.rename_field "
        "client.scenario_sets.delete_field",
        f"{_SCENARIOS}::test_sets_and_their_fields",
    ),
    one(
        "their scenarios",
        "client.scenarios.list client.scenarios.get client.scenarios.add_many "
        "client.scenarios.update client.scenarios.delete",
        f"{_SCENARIOS}::test_every_position_has_its_scenario",
    ),
    one(
        "changing a set, and one scenario more",
        "client.scenario_sets.update client.scenarios.add",
        f"{_SCENARIOS}::test_sets_and_their_fields",
        f"{_SCENARIOS}::test_every_position_has_its_scenario",
    ),
    # Agents' results.
    one("the tasks of agents", "client.agent_results.definition", _AGENTS),
    one("which results have a task", "client.agent_results.preview", _AGENTS),
    one(
        "storing agents' results",
        "client.agent_results.upload",
        _AGENTS,
        "resources/test_agents.py::test_what_was_not_taken_is_told",
    ),
    one("waiting until they are judged", "client.agent_results.wait", _AGENTS),
    one("the same as events", "client.agent_results.stream", _AGENTS),
    one("trajectories, typed", "", local="a trajectory is a dict; the service checks its form"),
    # Errors and events.
    one(
        "errors by their kinds",
        "AuthenticationError NotFoundError ConflictError RejectedError",
        "flow/test_misuse.py::test_a_wrong_key_is_found_on_entering",
        _COLLECTIONS,
        f"{_JOBS}::test_annotations_are_not_lost_unasked",
        f"{_SCENARIOS}::test_sets_and_their_fields",
    ),
    one(
        "how far a job is",
        "client.experiments.stream_run",
        f"{_JOBS}::test_a_stream_tells_progress_logs_and_the_end",
    ),
]


@cache
def functions_of(file: str) -> dict[str, str]:
    """The text of each test of a file, by its name."""
    text = (_TESTS / file).read_text("utf-8")
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_capability_is_left_out() -> None:
    """There are as many as the official client has."""
    assert len(FEATURES) == len({feature.what for feature in FEATURES}) == 78


@pytest.mark.parametrize(
    "feature", FEATURES, ids=[f"{number} {one.what}" for number, one in enumerate(FEATURES, 1)]
)
def test_a_capability_is_here_and_shown(feature: Feature) -> None:
    """Its names are there, and so are the tests, which use them; or it has no effect to show."""
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:1")
    for name in feature.here:
        first, *rest = name.split(".")
        root = client if first == "client" else getattr(elluminate_async, first)
        assert reduce(getattr, rest, root) is not None, name

    assert feature.shown or feature.local
    places = [test.split("::") for test in feature.shown]
    shown = "".join(functions_of(file)[name] for file, name in places)
    if not feature.local:
        for name in feature.here:
            assert re.search(rf"\b{name.rpartition('.')[2]}\b", shown), name
