"""`Spec`: what `run` evaluates, from a YAML or TOML file, and from options.

::

    data: tickets.csv                      # beside the spec; CSV, JSONL, JSON, Parquet, Excel
    prompt: "Answer the customer: {{message}}"   # or chat messages, a list of {role, content}
    criteria:                              # left out, the model proposes them
      - Is the answer polite?
      - {criterion: Does it name the next step?, label: next step}
    models:                                # left out, the service's default
      - small
      - {name: large, llm_model_name: gpt-large, base_url: "https://…/v1", api_key_env: LARGE_KEY}
    epochs: 1
    run: nightly-42                        # left out, each call is one of its own
    key: ticket_id                         # the column that tells the rows of a run apart
    rating_mode: detailed                  # or fast, without the judge's reasoning
    gate: {pass_rate: 0.8, max_error_rate: 0.05, per_criterion: false}
    options: {concurrency: 10, requests_per_second: 20, items_per_minute: 3000, deadline: 3600}
    max_cost: 5.0                          # left out, no bound
    out: [results.jsonl, results.xml]
    report: report.html

Paths are relative to the file. Keys are never in it: ``api_key_env`` names the variable of the
environment that holds one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from elluminate_async.cli.files import read_text
from elluminate_async.errors import InputError
from elluminate_async.errors.closest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]

MAX_ERROR_RATE = 0.05
"""Where none is given: with more verdicts missing than this, nothing was measured."""


class SpecModel(BaseModel):
    """A part of a spec: unknown keys are errors, and a text is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class MessageSpec(SpecModel):
    """One chat message of a prompt."""

    role: Literal["system", "user", "assistant", "developer"]
    content: str


class CriterionSpec(SpecModel):
    """One question for the judge, under a short name."""

    criterion: Annotated[str, Field(min_length=1)]
    label: str | None = None


class ModelSpec(SpecModel):
    """A configuration of a model, made where it does not exist.

    Attributes:
        name: As results name it.
        llm_model_name: As its endpoint names it; None for ``name``.
        base_url: The endpoint; None for the service's own.
        api_key_env: The variable of the environment that holds the endpoint's key.
    """

    name: Annotated[str, Field(min_length=1)]
    llm_model_name: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    system_message: str | None = None
    reasoning_effort: str | None = None
    timeout: int | None = None
    max_connections: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    input_price_per_mtok: float | None = None
    output_price_per_mtok: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, value: Any) -> Any:
        if isinstance(value, dict) and "api_key" in value:
            raise ValueError(
                "a key does not belong into a file: put it into a variable of the environment, "
                "and the variable's name into api_key_env"
            )
        return cast("Any", value)


class GateSpec(SpecModel):
    """When the evaluation passes; see `Evaluation.gate`."""

    pass_rate: Share | None = None
    max_error_rate: Share = MAX_ERROR_RATE
    per_criterion: bool = False


class OptionsSpec(SpecModel):
    """How fast and for how long; see `BatchOptions`.

    Attributes:
        concurrency: Chunks in flight.
        deadline: Seconds for the whole run.
    """

    concurrency: Annotated[int, Field(ge=1)] | None = None
    requests_per_second: Annotated[int, Field(ge=1)] | None = None
    items_per_minute: Annotated[int, Field(ge=1)] | None = None
    deadline: Annotated[float, Field(gt=0)] | None = None


class Spec(SpecModel):
    """One evaluation.

    Attributes:
        run: The run that it belongs to; see `AsyncClient.evaluate`.
        key: The column that tells the rows of a run from each other.
        responses: The column of answers that exist, which are rated and not generated.
        limit: Only so many rows, the first.
        max_cost: What the answers may cost; see `AsyncClient.evaluate`.
        output_tokens: Tokens that one answer is expected to have, for plans.
    """

    data: Annotated[str, Field(min_length=1)]
    prompt: str | list[MessageSpec] | None = None
    criteria: list[str | CriterionSpec] | None = None
    models: list[str | ModelSpec] = []
    epochs: Annotated[int, Field(ge=1, le=1_000)] = 1
    run: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    key: Annotated[str, Field(min_length=1)] | None = None
    rating_mode: Literal["detailed", "fast"] = "detailed"
    name: Annotated[str, Field(min_length=1)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    responses: str | None = None
    gate: GateSpec = GateSpec()
    options: OptionsSpec = OptionsSpec()
    max_cost: Annotated[float, Field(gt=0)] | None = None
    output_tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    out: list[str] = []
    report: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        content = cast("dict[Any, Any]", value)
        out = content.get("out")
        return {**content, "out": [out]} if isinstance(out, str) else content


def is_spec(path: str) -> bool:
    """Whether the file is a spec, and not one of rows."""
    return Path(path).suffix.lower() in (".yaml", ".yml", ".toml")


def read_spec(path: str) -> dict[str, Any]:
    """The content of a spec's file, with its paths made relative to the working directory.

    Raises:
        InputError: It cannot be read, or is no mapping; the text names the line.
    """
    text = read_text(path)
    content = _toml(text, path) if path.lower().endswith(".toml") else _yaml(text, path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a mapping with the keys {_keys(Spec)}")
    return _beside(path, cast("dict[str, Any]", content))


def checked_spec(content: Mapping[str, Any], source: str) -> Spec:
    """The spec of a file's content, or of options.

    Raises:
        InputError: A key is unknown, or a value cannot work; the text says which, and for a
            key which there are.
    """
    try:
        return Spec.model_validate(dict(content))
    except ValidationError as error:
        raise InputError(f"{source}: {_problem(error)}") from None


def _problem(error: ValidationError) -> str:
    # Of a union every member complains: the one that got furthest knows best. A key that is missing
    # is so as it is misspelt.
    first = max(
        error.errors(include_url=False, include_input=False),
        key=lambda one: (
            one["type"] == "value_error",
            len(one["loc"]),
            one["type"] == "extra_forbidden",
        ),
    )
    of_fields = [part for part in first["loc"] if _is_place(part)]
    where = ".".join(map(str, of_fields))
    if first["type"] == "extra_forbidden":
        model = _model_at(first["loc"])
        meant = did_you_mean(str(of_fields[-1]), model.model_fields)
        return f"no such key as {where}{meant or ':'} there are {_keys(model)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


_MEMBERS = {"str", "MessageSpec", "CriterionSpec", "ModelSpec"}


def _is_place(part: int | str) -> bool:
    # The names of a union's members are no keys of the file's.
    return isinstance(part, int) or not (part in _MEMBERS or "[" in part)


def _model_at(place: tuple[int | str, ...]) -> type[BaseModel]:
    """The part of the spec that a place is in."""
    within = [part for part in place[:-1] if isinstance(part, str)]
    by_name: dict[str, type[BaseModel]] = {
        "gate": GateSpec, "options": OptionsSpec, "models": ModelSpec,
        "criteria": CriterionSpec, "prompt": MessageSpec,
    }  # fmt: skip
    return by_name.get(within[0], Spec) if within else Spec


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _beside(path: str, content: dict[str, Any]) -> dict[str, Any]:
    folder = Path(path).parent

    def moved(value: object) -> object:
        return str(folder / value) if isinstance(value, str) and value != "-" else value

    for key in ("data", "report"):
        if key in content:
            content[key] = moved(content[key])
    out = content.get("out")
    if isinstance(out, list):
        content["out"] = [moved(one) for one in cast("list[object]", out)]
    elif out is not None:
        content["out"] = moved(out)
    return content


def _toml(text: str, path: str) -> object:
    import tomllib

    try:
        return tomllib.loads(text)
    except ValueError as error:
        # Also of a number with more digits than Python reads.
        raise InputError(f"{path}: no TOML: {error}") from None


def _yaml(text: str, path: str) -> object:
    from elluminate_async.cli.yaml_files import parse_yaml

    return parse_yaml(text, path)
