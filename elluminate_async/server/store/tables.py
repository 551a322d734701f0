"""The tables. Ids are made by `rows.reserve_ids`: ascending, and never used twice."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from elluminate_async.server.store.columns import (
    json_column,
    metadata,
    optional,
    parent,
    partial_index,
    table_of_project,
    time_column,
)
from elluminate_async.server.store.utc import UtcDateTime

SCHEMA_VERSION = 7
"""Version of these tables and of those that triggers keep; a later one is refused."""

meta = Table("meta", metadata, Column("name", String, primary_key=True), Column("value", Text))

sequences = Table(
    "sequences",
    metadata,
    Column("name", String, primary_key=True),
    Column("next_id", Integer, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("public_in_org", Boolean, nullable=False),
    time_column("created_at"),
    time_column("updated_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("sha256", String, primary_key=True),
    # None: a key for all projects of this server.
    parent("project_id", "projects", nullable=True),
    time_column("created_at"),
)

criterion_sets = table_of_project(
    "criterion_sets",
    Column("name", String, nullable=False),
    time_column("created_at"),
    UniqueConstraint("project_id", "name"),
)

criteria = table_of_project(
    "criteria",
    parent("criterion_set_id", "criterion_sets"),
    Column("criterion_str", Text, nullable=False),
    Column("label", String),
    # Of one that its set no longer asks, and that is kept for its ratings.
    Column("retired_at", UtcDateTime),
    time_column("created_at"),
)

prompt_templates = table_of_project(
    "prompt_templates",
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    json_column("messages"),
    json_column("response_format_json_schema"),
    json_column("tools"),
    json_column("tool_choice"),
    Column("digest", String, nullable=False),
    optional("criterion_set_id", "criterion_sets"),
    time_column("created_at"),
    time_column("updated_at"),
    UniqueConstraint("project_id", "name", "version"),
    UniqueConstraint("project_id", "name", "digest"),
)

collections = table_of_project(
    "collections",
    Column("name", String, nullable=False),
    Column("description", Text, nullable=False),
    json_column("columns"),
    Column("read_only", Boolean, nullable=False),
    Column("collection_type", String, nullable=False),
    json_column("environment_config"),
    time_column("created_at"),
    time_column("updated_at"),
    UniqueConstraint("project_id", "name"),
)

entries = table_of_project(
    "entries",
    parent("collection_id", "collections"),
    json_column("input_values"),
    json_column("environment_config"),
    Column("digest", String, nullable=False),
    time_column("created_at"),
    Index("entries_by_content", "collection_id", "digest"),
)

scenario_sets = table_of_project(
    "scenario_sets",
    Column("name", String, nullable=False),
    Column("description", Text, nullable=False),
    Column("read_only", Boolean, nullable=False),
    time_column("created_at"),
    time_column("updated_at"),
    UniqueConstraint("project_id", "name"),
)

scenario_fields = table_of_project(
    "scenario_fields",
    parent("scenario_set_id", "scenario_sets"),
    Column("name", String, nullable=False),
    Column("field_type", String, nullable=False),
    Column("default_value", Text, nullable=False),
    UniqueConstraint("scenario_set_id", "name"),
)

scenarios = table_of_project(
    "scenarios",
    parent("scenario_set_id", "scenario_sets"),
    Column("goal", Text, nullable=False),
    Column("expected_conversation_outcome", Text, nullable=False),
    # A value for each field, by the field's id: renaming a field changes no scenario.
    json_column("field_values"),
    # Of the goal and the outcome alone, which no change of the fields touches.
    Column("digest", String, nullable=False),
    time_column("created_at"),
    Index("scenarios_by_content", "scenario_set_id", "digest"),
)

llm_configs = table_of_project(
    "llm_configs",
    Column("name", String, nullable=False),
    json_column("document"),
    Column("api_key", Text),
    Column("is_default", Boolean, nullable=False),
    time_column("created_at"),
    UniqueConstraint("project_id", "name"),
)

experiments = table_of_project(
    "experiments",
    Column("name", String, nullable=False),
    Column("description", Text, nullable=False),
    parent("prompt_template_id", "prompt_templates", nullable=True),
    parent("collection_id", "collections", nullable=True),
    parent("criterion_set_id", "criterion_sets"),
    optional("llm_config_id", "llm_configs"),
    Column("generation_task_id", String),
    json_column("generation_params"),
    Column("rating_mode", String, nullable=False),
    Column("n_epochs", Integer, nullable=False),
    Column("logs", Text),
    # Of all its runs so far, from acceptance to end.
    Column("run_seconds", Float),
    Column("rating_version", String),
    Column("response_column_id", Integer),
    Column("evaluation_mode", String),
    json_column("agent_config"),
    json_column("evaluation_agent_config"),
    Column("persona_group_id", Integer),
    parent("scenario_set_id", "scenario_sets", nullable=True),
    time_column("created_at"),
    time_column("updated_at"),
    UniqueConstraint("project_id", "name"),
)

# Of experiments that agents' results are uploaded to: ids and names of their tasks.
agent_definitions = Table(
    "agent_definitions",
    metadata,
    Column(
        "experiment_id",
        Integer,
        ForeignKey("experiments.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    json_column("tasks"),
)

# What is known of an agent's result besides the response that it is.
agent_results = Table(
    "agent_results",
    metadata,
    Column(
        "response_id",
        Integer,
        ForeignKey("responses.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("reward", Float),
    Column("steps", Integer),
    Column("cost_usd", Float),
    json_column("metadata"),
)

prompts = table_of_project(
    "prompts",
    # None of a task for an agent, whose instruction is the row's.
    parent("prompt_template_id", "prompt_templates", nullable=True),
    parent("template_variables_id", "entries"),
    json_column("messages"),
    Column("digest", String, nullable=False),
    # Of the entry when it was last filled in; None where an earlier version did that.
    Column("entry_digest", String),
    # What a conversation gives besides messages, or why it is none; null where it gives nothing.
    json_column("resolved"),
    time_column("created_at"),
    UniqueConstraint("project_id", "digest"),
)

responses = table_of_project(
    "responses",
    parent("experiment_id", "experiments"),
    parent("prompt_id", "prompts"),
    # The prompt's, which it goes with: samples are found without the prompts.
    Column("template_variables_id", Integer),
    optional("llm_config_id", "llm_configs"),
    Column("epoch", Integer, nullable=False),
    # Under which it is made once; of most it is null.
    Column("item_key", String),
    # A row is made when its job is accepted, so that ids follow the request's order
    # whatever finishes first; it shows once it has an answer or an error.
    Column("is_ready", Boolean, nullable=False),
    json_column("messages"),
    json_column("llm_model_config"),
    Column("llm_model_name", String),
    Column("duration_seconds", Float),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("cached_tokens", Integer),
    # By the prices at the time; None where one of the two is not known.
    Column("input_cost_usd", Float),
    Column("output_cost_usd", Float),
    json_column("custom_api_info"),
    json_column("trajectory"),
    Column("trajectory_ingest_error", Text),
    Column("termination_reason", String),
    Column("error", Text),
    Column("annotation", Text, nullable=False),
    time_column("created_at"),
)
partial_index(
    "responses_by_entry",
    "is_ready",
    responses.c.experiment_id,
    responses.c.template_variables_id,
    responses.c.epoch,
    # Without it a condition that is the index's own would be looked up in the rows.
    responses.c.is_ready,
)

partial_index(
    "responses_by_key",
    "item_key IS NOT NULL",
    responses.c.experiment_id,
    responses.c.item_key,
    unique=True,
)

# Names under which ratings are made once. One that is asked for in two modes has two rows.
rating_runs = table_of_project(
    "rating_runs",
    Column("name", String, nullable=False),
    Column("rating_mode", String, nullable=False),
    UniqueConstraint("project_id", "name", "rating_mode"),
)

ratings = table_of_project(
    "ratings",
    parent("response_id", "responses", index=False),
    parent("criterion_id", "criteria"),
    Column("rating", String, nullable=False),
    Column("reasoning", Text),
    # Its share of what the judge took.
    Column("llm_model_name", String),
    Column("duration_seconds", Float),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("cached_tokens", Integer),
    # A newer rating supersedes an older one; the older stays for its job's result.
    Column("is_current", Boolean, nullable=False),
    Column("job_id", String, index=True),
    # Not a foreign key: runs stay as long as their project.
    Column("run_id", Integer),
    time_column("created_at"),
)
partial_index(
    "ratings_once",
    "is_current",
    ratings.c.response_id,
    ratings.c.criterion_id,
    unique=True,
)

partial_index(
    "ratings_of_run",
    "run_id IS NOT NULL",
    ratings.c.response_id,
    ratings.c.criterion_id,
    ratings.c.run_id,
    unique=True,
)

Index(
    "ratings_of_response",
    ratings.c.response_id,
    ratings.c.is_current,
    ratings.c.criterion_id,
    ratings.c.rating,
)

jobs = table_of_project(
    "jobs",
    Column("task_id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    # That of all its items; None where they are of several.
    parent("experiment_id", "experiments", nullable=True),
    Column("rating_mode", String),
    # Of one that rates under a name.
    Column("run_id", Integer),
    Column("status", String, nullable=False, index=True),
    Column("error_msg", Text),
    Column("total", Integer, nullable=False),
    Column("generated", Integer, nullable=False),
    Column("rated", Integer, nullable=False),
    Column("processed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    time_column("created_at"),
    Column("finished_at", UtcDateTime, index=True),
)

# The last run of an experiment is found among its runs, which are few, and not among all its jobs.
partial_index("jobs_of_runs", "kind = 'experiment'", jobs.c.experiment_id, jobs.c.id)

job_items = Table(
    "job_items",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    # Not a foreign key: a job's result still has a place for a response deleted since.
    Column("response_id", Integer, nullable=False, index=True),
    Column("is_done", Boolean, nullable=False),
    Column("failure_code", String),
    Column("failure_message", Text),
)

# Those that a job is to judge by, as its acceptance found them.
job_criteria = Table(
    "job_criteria",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    # Not a foreign key: one that is deleted is asked no more, and no other gets its id.
    Column("criterion_id", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("project_id", Integer, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("route", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("body_sha256", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    # The experiment that the answer is about, which it goes with.
    parent("experiment_id", "experiments", nullable=True),
)
