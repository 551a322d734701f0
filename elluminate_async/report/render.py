"""`render_report` and `write_report`: the data of a report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from elluminate_async._version import __version__
from elluminate_async.errors import MissingExtraError
from elluminate_async.report.data import ComparisonData, ReportData
from elluminate_async.report.drawing import histograms, samples_of, strips
from elluminate_async.report.entries import PART_ROWS, Entries
from elluminate_async.report.figures import failing_lines, headline, points, ranked, verdict_lines
from elluminate_async.report.formats import FILTERS
from elluminate_async.report.texts import embedded, shown
from elluminate_async.tables.files import written

if TYPE_CHECKING:
    from jinja2 import Template

_MEASUREMENTS = (
    ("Latency", "duration_seconds", "seconds"),
    ("Input tokens", "input_tokens", "count"),
    ("Output tokens", "output_tokens", "count"),
    ("Cost", "cost", "cost"),
)


def write_report(path: str | os.PathLike[str], data: ReportData) -> None:
    """Write the report; see `render_report`.

    A file that is there is replaced by a whole report or, where that cannot be written, kept.

    Raises:
        MissingExtraError: jinja2 is not installed: the extra ``report`` brings it.
        InputError: The folder is not there.
        OSError: It cannot be written.
    """
    page = render_report(data).encode()
    with written(path) as file:
        file.write(page)


def render_report(data: ReportData) -> str:
    """The report as one HTML document that needs nothing else, and works from a file.

    Its policy allows one style and one script, both in it and named by hash, and no address at
    all. Texts of models and data are never markup, see `elluminate_async.report.texts`. They
    are bounded: 20,000 characters each, and fewer where all of them are more than 40 million.

    Raises:
        MissingExtraError: jinja2 is not installed: the extra ``report`` brings it.

    Cost: time and memory in proportion to the texts, about three times their size at most.
    """
    template = _template()
    from markupsafe import Markup

    entries = Entries(data)
    style, script = _asset("page.css"), _asset("page.js")
    names = [config.name for config in data.configurations]
    shares = strips(entries.lines, len(entries.rows), len(names), len(data.criteria))
    return template.render(
        data=data,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        headline=headline(data),
        verdicts=verdict_lines(data),
        rates=ranked(data, shares),
        comparisons=[_comparison(comparison) for comparison in data.comparisons],
        measurements=[
            (title, form, histograms(samples_of(data.records, names, key)))
            for title, key, form in _MEASUREMENTS
        ],
        failing=failing_lines(data, entries),
        counts={"rows": len(entries.rows), "records": len(data.records)},
        text_limit=entries.text_limit,
        index=Markup(embedded(_index(data, entries))),
        parts=(Markup(embedded(part)) for part in entries.parts()),
    )


def _index(data: ReportData, entries: Entries) -> dict[str, Any]:
    return {
        "configs": [shown(config.name, 200) for config in data.configurations],
        "criteria": [shown(name, 500) for name in data.criteria.values()],
        "partRows": PART_ROWS,
        "rows": entries.rows,
        "lines": entries.lines,
        "changes": [_changes(comparison) for comparison in data.comparisons],
    }


def _changes(comparison: ComparisonData) -> dict[str, list[int]]:
    """The rows that a comparison found regressed and improved, by any criterion."""
    return {
        "regressed": sorted({row for one in comparison.criteria for row in one.regressed}),
        "improved": sorted({row for one in comparison.criteria for row in one.improved}),
    }


def _comparison(comparison: ComparisonData) -> dict[str, Any]:
    """With the worst criterion first, and by criterion the scale of the drawings."""
    known = [one for one in comparison.criteria if one.difference is not None]
    order = sorted(known, key=lambda one: one.difference or 0.0)
    order += [one for one in comparison.criteria if one.difference is None]
    ends = [abs(end) for one in [*known, comparison.overall] for end in (one.low, one.high) if end]
    regressed: dict[int, list[str]] = {}
    for one in order:
        for row in one.regressed:
            regressed.setdefault(row, []).append(one.label)
    return {
        "about": comparison,
        "criteria": order,
        "reach": max(ends, default=0.05),
        "regressed": sorted(regressed.items(), key=lambda item: (-len(item[1]), item[0])),
        "improved": len(_changes(comparison)["improved"]),
        "points": points(comparison.overall.difference),
    }


def _policy(style: str, script: str) -> str:
    """Nothing is allowed but the two that the page has; the icon is an empty one."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _asset(name: str) -> str:
    return (files("elluminate_async.report") / name).read_text(encoding="utf-8")


def check_library() -> None:
    """Raise `MissingExtraError` where jinja2 is not installed."""
    if find_spec("jinja2") is None:
        raise MissingExtraError("a report", "report")


def _template() -> Template:
    check_library()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(FILTERS)
    return environment.from_string(_asset("page.html"))
