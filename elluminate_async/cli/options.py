"""Options that several commands have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import typer
from pydantic import BaseModel

from elluminate_async.cli.database import DEFAULT
from elluminate_async.cli.files import read_text
from elluminate_async.cli.models import OFFLINE
from elluminate_async.cli.rows import read_criteria
from elluminate_async.cli.spec import MAX_ERROR_RATE

PromptOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT|@FILE", help="The prompt, with {{placeholders}} for columns."),
]
CriteriaOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT|@FILE",
        help="A question for the judge, answered with YES or NO; repeat it for more. A file has "
        "one a line. Without any the model proposes them.",
    ),
]
ModelOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="A model configuration at the service; repeat it to compare several."
    ),
]
EpochsOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1_000, help="Answers to each row from each model.")
]
RunOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Belongs to this run at the service: what another process of it has made under the "
        "same --name is taken, and made by none twice.",
    ),
]
KeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="What tells the rows of a --run from each other."),
]
NameOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the run; else that of the file.")
]
LimitOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take the first N rows only.")
]
FastOption: TypeAlias = Annotated[
    bool, typer.Option("--fast", help="Verdicts without the judge's reasoning.")
]
OutOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Write the results there: .jsonl, .csv, .parquet, or .xml for JUnit; repeatable.",
    ),
]
ReportOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write a report there, one HTML file.")
]
FailUnderOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, metavar="SHARE", help="Exit with 1 when less than this share passed."
    ),
]
MaxErrorRateOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="SHARE",
        help="Exit with 3 when more than this share of the verdicts is missing; "
        f"{MAX_ERROR_RATE:g} where nothing says otherwise.",
    ),
]
PerCriterionOption: TypeAlias = Annotated[
    bool, typer.Option("--per-criterion", help="Hold each criterion against these by itself.")
]
ConcurrencyOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Chunks in flight at once.")
]
RateOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--requests-per-second", min=1, metavar="N", help="A strict limit on requests."),
]
DeadlineOption: TypeAlias = Annotated[
    float | None, typer.Option(min=0.001, metavar="SECONDS", help="For the whole run.")
]
MaxCostOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="AMOUNT",
        help="Ask for no answer that might cost more than is left of this, by the models' prices; "
        "--resume goes on with a larger one.",
    ),
]
OutputTokensOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Tokens that an answer is expected to have, for the cost of a plan."
    ),
]
DryRunOption: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and send nothing.")
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]
QuietOption: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")
]
BaseUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A service at this address, or at that of ELLUMINATE_BASE_URL, with the key in "
        "ELLUMINATE_API_KEY; without it the embedded server is started, on .elluminate/.",
    ),
]
HostedOption: TypeAlias = Annotated[
    bool, typer.Option("--hosted", help="The hosted service. This costs money there.")
]
ProjectOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help='The project at the service, or "newest".')
]
DbOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--db",
        "--database",
        metavar="FILE",
        help="The embedded server's database, which one server at a time has.",
    ),
]
LlmBaseUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An OpenAI-compatible endpoint behind the embedded server, such as "
        "http://127.0.0.1:11434/v1. Its key is read from LLM_API_KEY or OPENAI_API_KEY.",
    ),
]
LlmModelOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"The model's name there; {OFFLINE!r} is a stand-in that knows nothing.",
    ),
]
JudgeBaseUrlOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="URL", help="Another endpoint to judge.")
]
DEFAULT_DB = str(DEFAULT)
JudgeModelOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Another model to judge; else the same one.")
]


def json_schema_option(document: type[BaseModel]) -> Any:
    """The option ``--json-schema`` of a command that prints such a ``document`` by ``--json``."""

    def print_schema(wanted: bool) -> None:
        if wanted:
            typer.echo(json.dumps(document.model_json_schema(mode="serialization"), indent=2))
            raise typer.Exit

    return typer.Option(
        "--json-schema",
        help="Print the schema of what --json prints.",
        callback=print_schema,
        is_eager=True,
    )


def overrides(
    *,
    prompt: str | None,
    criteria: Sequence[str] | None,
    models: Sequence[str] | None = None,
    fast: bool = False,
    fail_under: float | None = None,
    max_error_rate: float | None = None,
    per_criterion: bool = False,
    concurrency: int | None = None,
    requests_per_second: float | None = None,
    deadline: float | None = None,
    **others: Any,
) -> dict[str, Any]:
    """The parts of a spec that options give; only those that were given.

    Raises:
        InputError: A file that one names cannot be read.
    """
    given = {name: value for name, value in others.items() if value not in (None, [])}
    if prompt is not None:
        given["prompt"] = _text_or_file(prompt)
    if criteria:
        given["criteria"] = [
            text
            for one in criteria
            for text in (read_criteria(one[1:]) if one.startswith("@") else [one])
        ]
    if models:
        given["models"] = list(models)
    if fast:
        given["rating_mode"] = "fast"
    given["gate"] = _told(
        pass_rate=fail_under,
        max_error_rate=max_error_rate,
        per_criterion=True if per_criterion else None,
    )
    given["options"] = _told(
        concurrency=concurrency, requests_per_second=requests_per_second, deadline=deadline
    )
    return given


def _told(**values: Any) -> dict[str, Any]:
    # Not by equality: a threshold of 0 is one.
    return {name: value for name, value in values.items() if value is not None}


def merged(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The content of a spec with what options give in its place."""
    whole = {**spec, **given}
    for part in ("gate", "options"):
        before, after = spec.get(part, {}), given.get(part, {})
        # What is no mapping is told of where the spec is checked.
        if isinstance(before, dict) and isinstance(after, dict):
            whole[part] = {**before, **after}
    return whole


def _text_or_file(text: str) -> str:
    return read_text(text[1:]) if text.startswith("@") else text
