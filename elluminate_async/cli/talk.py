"""Text for people, all of it on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elluminate_async.cli.models import OFFLINE
from elluminate_async.cli.output import in_one_line, printable

if TYPE_CHECKING:
    from elluminate_async import Evaluation
    from elluminate_async.cli.documents import PlanDocument, RateDocument, RunDocument
    from elluminate_async.cli.service import Where

_PUT_ONE = "Put a model behind it by --llm-base-url and --llm-model."
OFFLINE_NOTE = (
    "No model was asked: the offline stand-in answered and judged, so that every verdict here "
    f"means nothing. {_PUT_ONE}"
)
OFFLINE_JUDGE = (
    f"No model judged: the offline stand-in did, so that every verdict means nothing. {_PUT_ONE}"
)
OFFLINE_MODEL = f"No model answered: the offline stand-in did. {_PUT_ONE}"
_FAILURES_SHOWN = 5


class Talk:
    """A console on standard error.

    Args:
        is_quiet: Say nothing but results and errors.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.is_quiet = is_quiet

    def say(self, text: str, *, always: bool = False) -> None:
        """A line, unless it is to be quiet."""
        if always or not self.is_quiet:
            self.console.print(escape(printable(text.replace("\n", " "))), soft_wrap=True)

    def service(self, told: str, where: Where) -> None:
        """Who answers and judges."""
        self.say(f"service     {told}")
        if where.is_embedded:
            model = _model(where.llm_model, where.llm_base_url)
            self.say(f"model       {model}")
            if where.judge_model is not None:
                self.say(f"judge       {_model(where.judge_model, where.judge_base_url)}")

    def plan(self, plan: PlanDocument) -> None:
        """The plan of a run, as text."""
        criteria = "proposed by the model" if plan.criteria is None else str(plan.criteria)
        for name, value in (
            ("rows", f"{plan.rows}{_twice(plan.duplicates)}"),
            ("columns", ", ".join(plan.columns)),
            ("placeholders", ", ".join(plan.placeholders) or "none"),
            ("unused", ", ".join(plan.unused) or "none"),
            ("models", ", ".join(plan.configurations)),
            ("epochs", str(plan.epochs)),
            ("criteria", criteria),
            ("generations", str(plan.generations)),
            ("ratings", str(plan.ratings)),
            ("requests", f"{plan.requests}, in {_chunks(plan)}"),
            ("tokens", f"{_known(plan.input_tokens)} in, {_known(plan.output_tokens)} out"),
            ("cost", _known(plan.cost)),
            ("time", "no limit" if plan.seconds is None else f"at least {plan.seconds:g} s"),
        ):
            self.say(f"{name:<13} {value}", always=True)
        self.warnings(plan)
        for note in plan.notes:
            self.say(f"note: {note}")

    def warnings(self, plan: PlanDocument) -> None:
        """Warnings of what is probably not meant."""
        for warning in plan.warnings:
            self.say(f"warning: {warning}")

    def result(self, evaluation: Evaluation, document: RunDocument) -> None:
        """The table of rates, the failures, and the gate's decision."""
        self.console.print(_rates(document))
        for error in list(evaluation.failed.values())[:_FAILURES_SHOWN]:
            self.say(f"failed: {error}", always=True)
        if (more := len(evaluation.failed) - _FAILURES_SHOWN) > 0:
            self.say(f"failed: and {more} more", always=True)
        whole = document.records - document.failed
        said = f"{whole} of {document.records} items evaluated in {document.seconds:.1f} s"
        if document.usage is not None and document.usage.unknown < document.usage.responses:
            tokens = document.usage.input_tokens + document.usage.output_tokens
            said += f", {tokens} tokens"
        if document.cost is not None:
            said += f", cost {document.cost:.4g}"
        self.say(said)
        if document.note is not None:
            self.say(document.note, always=True)

    def outcome(self, document: RunDocument) -> None:
        """The last lines: what was written, the decision, and how to go on."""
        for path in document.written:
            self.say(f"written     {path}")
        if document.gate is not None:
            for reason in document.gate.reasons:
                self.say(f"gate: {reason}", always=True)
        if document.error is not None:
            self.say(f"elluminate-async: {document.error}", always=True)
        if document.status != "error":
            name = "" if document.name is None else f" {document.name}"
            self.say(f"run{name}: {document.status}", always=True)
        if document.resume is not None:
            self.say(f"To go on: {document.resume}", always=True)


def offline_note(where: Where, *, names_models: bool, has_answers: bool) -> str | None:
    """A note on stand-ins for models; None where there was none.

    Args:
        where: The service.
        names_models: Whether configurations say which models answer, at whatever endpoint.
        has_answers: Whether the answers existed.
    """
    is_made_up = where.has_offline_model and not names_models and not has_answers
    if where.has_offline_judge:
        return OFFLINE_NOTE if is_made_up else OFFLINE_JUDGE
    return OFFLINE_MODEL if is_made_up else None


def _chunks(plan: PlanDocument) -> str:
    chunks = plan.chunks
    return f"{chunks.upload} + {chunks.generate} + {chunks.rate} chunks of rows, answers, ratings"


def _twice(count: int) -> str:
    return f", {count} of them as an earlier one" if count else ""


def _known(figure: float | None) -> str:
    if figure is None:
        return "unknown"
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)


def _model(name: str, base_url: str | None) -> str:
    if name == OFFLINE:
        return "the offline stand-in: no model is asked, and its verdicts mean nothing"
    return f"{name} at {base_url or 'its provider'}"


def _rates(document: RunDocument) -> Table:
    table = Table("model", "criterion", box=SIMPLE_HEAD)
    for name in ("passed", "rate", "95 % interval", "missing"):
        table.add_column(name, justify="right", no_wrap=True)
    for config, found in document.configurations.items():
        rates = [*found.criteria.items(), ("all criteria", found.overall)]
        shown = config
        for criterion, rate in rates:
            names = (escape(in_one_line(text)) for text in (shown, criterion))
            table.add_row(*names, *_cells(rate), end_section=rate is found.overall)
            shown = ""
    return table


def _cells(rate: RateDocument) -> tuple[str, str, str, str]:
    """How many passed, their rate, its interval, and what was not measured."""
    passed, missing = f"{rate.passed} of {rate.measured}", str(rate.not_measured)
    if rate.rate is None or rate.low is None or rate.high is None:
        return passed, "-", "-", missing
    interval = f"{100 * rate.low:.1f} to {100 * rate.high:.1f} %"
    return passed, f"{100 * rate.rate:.1f} %", interval, missing
