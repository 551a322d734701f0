"""JUnit XML: the results that a CI server shows, one test case a position.

Source: the schema that Jenkins and GitLab read,
https://github.com/jenkinsci/xunit-plugin, ``junit-10.xsd``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias
from xml.sax.saxutils import escape, quoteattr

# The characters of XML 1.0, section 2.2; no escape makes any other one legal.
_NO_XML: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a case did not pass.

    Attributes:
        kind: A word that machines group by, such as the code of an error.
        message: One line.
        text: All there is to say.
    """

    kind: str
    message: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One position.

    Attributes:
        name: Unique within its suite.
        group: Of which kind it is, JUnit's ``classname``.
        failure: It was answered, and not as it should be.
        error: It has no answer.
        seconds: How long it took, where that is known.
    """

    name: str
    group: str
    failure: Finding | None = None
    error: Finding | None = None
    seconds: float | None = None


Cases: TypeAlias = Callable[[], Iterable[Case]]
"""Gives the cases, each time from the first: they are counted, and then written."""


def junit_parts(suites: Iterable[tuple[str, Cases]]) -> Iterator[bytes]:
    """The document, a case a part; ``suites`` are names and their cases."""
    counted = [(name, cases, _counts(cases())) for name, cases in suites]
    total = [sum(numbers) for numbers in zip(*(counts for *_, counts in counted), strict=True)]
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f"<testsuites{_count_attributes(total or (0, 0, 0))}>\n".encode()
    for name, cases, counts in counted:
        attributes = f"{_attribute('name', name)}{_count_attributes(counts)}"
        yield f"  <testsuite{attributes}>\n".encode()
        for case in cases():
            yield _case(case).encode()
        yield b"  </testsuite>\n"
    yield b"</testsuites>\n"


def _counts(cases: Iterable[Case]) -> tuple[int, int, int]:
    tests = failures = errors = 0
    for case in cases:
        tests += 1
        failures += case.failure is not None
        errors += case.error is not None
    return tests, failures, errors


def _count_attributes(counts: Iterable[int]) -> str:
    names = ("tests", "failures", "errors")
    return "".join(f' {name}="{n}"' for name, n in zip(names, counts, strict=True))


def _case(case: Case) -> str:
    attributes = _attribute("classname", case.group) + _attribute("name", case.name)
    if case.seconds is not None:
        attributes += f' time="{case.seconds:.3f}"'
    inside = "".join(
        f"\n      <{tag}{_attribute('type', found.kind)}{_attribute('message', found.message)}>"
        f"{_content(found.text)}</{tag}>"
        for tag, found in (("failure", case.failure), ("error", case.error))
        if found is not None
    )
    end = f">{inside}\n    </testcase>\n" if inside else "/>\n"
    return f"    <testcase{attributes}{end}"


def _attribute(name: str, value: str) -> str:
    return f" {name}={quoteattr(xml_text(value))}"


def _content(text: str) -> str:
    # A parser turns a bare carriage return into a line feed.
    return escape(xml_text(text), {"\r": "&#13;"})


def xml_text(text: str) -> str:
    """``text`` without the characters that XML cannot have, such as those of control."""
    return _NO_XML.sub("", text)
