"""What a caller passes as JSON and cannot be: its place, its value and what to do."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elluminate_async import InputError
from elluminate_async.resources.template_variables import encode_row
from elluminate_async.tables.json_checks import MAX_DEPTH, problem_in
from tests.flow.bench import Stage
from tests.flow.conftest import stage as stage


class Scalar:
    """As numpy's: no number of Python's."""

    dtype = "int64"

    def item(self) -> int:
        return 3

    def __repr__(self) -> str:
        return "int64(3)"


class NaTType:
    """As pandas has it."""

    def __repr__(self) -> str:
        return "NaT"


class Rude:
    """Not even its `repr` works."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


@dataclass
class Point:
    """A caller's own."""

    x: int = 1


class Price(float):
    """As numpy's float64: a number of Python's too."""


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def circle() -> Any:
    values: list[Any] = [1]
    values.append({"b": values})
    return values


BAD: dict[str, tuple[Any, str]] = {
    "nan": (math.nan, r"values\[3\]\['price'\] is nan, which JSON does not have: use None"),
    "nan of a library": (Price("nan"), r"values\[3\]\['price'\] is nan, .* use None"),
    "infinity": (math.inf, r"values\[3\]\['price'\] is inf, which JSON does not have: use None"),
    "minus infinity": (-math.inf, r"\['price'\] is -inf, which JSON does not have: use None"),
    "nested nan": ({"a": [{"b": math.nan}]}, r"\['price'\]\['a'\]\[0\]\['b'\] is nan, .* None"),
    "in a tuple": ((1, math.nan), r"values\[3\]\['price'\]\[1\] is nan"),
    "scalar of numpy": (
        Scalar(),
        r"\['price'\] is int64\(3\) of .*Scalar.* use x.item\(\)",
    ),
    "nested scalar": ([Scalar()], r"values\[3\]\['price'\]\[0\] is int64\(3\)"),
    "no time": (NaTType(), r"\['price'\] is NaT of the type .*NaTType.* use None"),
    "decimal": (decimal.Decimal("1.5"), r"is Decimal\('1.5'\) .* use float\(x\) or str\(x\)"),
    "date": (datetime.date(2026, 1, 2), r"is datetime.date\(2026, 1, 2\) .* use x.isoformat\(\)"),
    "time": (datetime.datetime(2026, 1, 2), r"is datetime.datetime.* use x.isoformat\(\)"),
    "span": (datetime.timedelta(1), r"use x.total_seconds\(\)"),
    "bytes": (b"a", r"is b'a' of the type bytes, .* use x.decode\(\)"),
    "set": ({1}, r"is \{1\} of the type set, .* use sorted\(x\)"),
    "uuid": (uuid.UUID(int=1), r"use str\(x\)"),
    "range": (range(3), r"is range\(0, 3\) .* use list\(x\)"),
    "mapping": (MappingProxyType({"a": 1}), r"use dict\(x\)"),
    "dataclass": (Point(), r"use dataclasses.asdict\(x\)"),
    "object": (Rude(), r"values\[3\]\['price'\] is of the type .*Rude"),
    "number as a name": ({1: "a"}, r"values\[3\]\['price'\] has 1 of the type int as a name"),
    "None as a name": ([{None: "a"}], r"values\[3\]\['price'\]\[0\] has None of the type"),
    "circle": (circle(), r"values\[3\]\['price'\]\[1\]\['b'\] is a part of itself"),
    "deep": (deep(MAX_DEPTH), rf"over {MAX_DEPTH} levels deep: pass it flatter"),
    "very deep": (deep(100_000), rf"over {MAX_DEPTH} levels deep: pass it flatter"),
    "long integer": (10**5000, r"\['price'\] is an integer of over 4,000 digits: use str\(x\)"),
    "half a character": ("a\ud83d", r"\['price'\] has half a character \(U\+D83D\) at index 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_row_that_is_no_json(kind: str) -> None:
    """Its position, the column and the path in it, the value, and what to pass instead."""
    value, expected = BAD[kind]

    with pytest.raises(InputError, match=expected) as caught:
        encode_row({"a": 1, "price": value}, 3)

    assert str(caught.value).startswith("values[3] cannot be written as JSON: ")
    assert len(str(caught.value)) < 400
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "value", [deep(MAX_DEPTH - 1), "\U0001f600", 10**4000, -0.0, True, (), {"": []}, Price(1.5)]
)
def test_a_row_that_is_json(value: Any) -> None:
    """Whatever JSON has goes through, up to the edges."""
    assert encode_row({"x": value}, 0)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_value_is_json_or_named(value: Any) -> None:
    """Never another exception, and never a value that JSON writes as something else."""
    problem = problem_in(value, "x")
    try:
        encoded = encode_row({"x": value}, 0)
    except InputError:
        assert problem is not None
    else:
        assert problem is None
        assert b"NaN" not in encoded or "NaN" in repr(value)


Call = Callable[[Stage, Any], Coroutine[Any, Any, object]]
CALLS: dict[str, tuple[Call, str]] = {
    "row": (
        lambda s, bad: s.client.template_variables.add_to_collection({"x": bad}, s.collection),
        r"values\[0\]\['x'\] is nan",
    ),
    "rows": (
        lambda s, bad: s.client.template_variables.add_many(
            [{"x": 1}, {"x": [bad]}], collection=s.collection
        ),
        r"values\[1\]\['x'\]\[0\] is nan",
    ),
    "first rows": (
        lambda s, bad: s.client.collections.create("c", variables=[{"x": bad}]),
        r"variables\[0\]\['x'\] is nan",
    ),
    "sampling": (
        lambda s, bad: s.client.experiments.create(
            "e",
            prompt_template=s.template,
            collection=s.collection,
            generation_params={"temperature": bad},
        ),
        r"generation_params\['temperature'\] is nan",
    ),
    "sampling of a run": (
        lambda s, bad: s.client.experiments.run(s.experiment, generation_params={"a": [bad]}),
        r"generation_params\['a'\]\[0\] is nan",
    ),
    "messages": (
        lambda s, bad: s.client.prompt_templates.create(
            [{"role": "user", "content": "a", "weight": bad}], "t"
        ),
        r"messages\[0\]\['weight'\] is nan",
    ),
    "tools": (
        lambda s, bad: s.client.prompt_templates.create("a", "t", tools=[{"f": {"max": bad}}]),
        r"tools\[0\]\['f'\]\['max'\] is nan",
    ),
    "tool choice": (
        lambda s, bad: s.client.prompt_templates.create("a", "t", tool_choice={"f": bad}),
        r"tool_choice\['f'\] is nan",
    ),
    "response format": (
        lambda s, bad: s.client.prompt_templates.create("a", "t", response_format={"f": bad}),
        r"response_format_json_schema\['f'\] is nan",
    ),
    "model": (
        lambda s, bad: s.client.llm_configs.create("c", "m", temperature=bad),
        r"a field of the LLM configuration cannot be sent: temperature: .*finite",
    ),
    "one output": (
        lambda s, bad: s.client.responses.add(
            [{"role": "assistant", "content": "a", "score": bad}],
            template_variables=1,
            experiment=s.experiment,
        ),
        r"messages\[0\]\['score'\] is nan",
    ),
    "outputs": (
        lambda s, bad: s.client.responses.add_many(
            ["a", [{"role": "assistant", "content": "a", "score": bad}]],
            template_variables=[1, 2],
            experiment=s.experiment,
        ),
        r"responses\[1\]\[0\]\['score'\] is nan",
    ),
}


@pytest.mark.parametrize("what", CALLS)
async def test_whatever_goes_out_as_json_is_looked_at(stage: Stage, what: str) -> None:
    """Before anything is sent, wherever a caller's own JSON goes in; never null in its place."""
    call, expected = CALLS[what]
    with pytest.raises(InputError, match=expected):
        await call(stage, math.nan)

    assert stage.recorder.requests == []


MISUSES: dict[str, Callable[[Stage], Coroutine[Any, Any, object]]] = {
    "messages of numbers": lambda s: s.client.prompt_templates.create([1], "t"),  # type: ignore[list-item]
    "tools that are none": lambda s: s.client.prompt_templates.create("a", "t", tools=[1]),  # type: ignore[list-item]
    "a format that is none": lambda s: s.client.prompt_templates.create(
        "a", "t", response_format=3  # type: ignore[arg-type]
    ),
    "a name that is none": lambda s: s.client.prompt_templates.create("a", None),  # type: ignore[arg-type]
    "an empty name": lambda s: s.client.collections.get_or_create(""),
    "half a name": lambda s: s.client.criterion_sets.create("a\ud83d"),
    "columns of numbers": lambda s: s.client.collections.create("c", columns=[1]),  # type: ignore[list-item]
    "rows that are none": lambda s: s.client.collections.create("c", variables=[1]),  # type: ignore[list-item]
    "criteria of numbers": lambda s: s.client.criteria.add_many([1], prompt_template=s.template),  # type: ignore[list-item]
    "criteria as a text": lambda s: s.client.criteria.add_many("ab", prompt_template=s.template),
    "a criterion set of a text": lambda s: s.client.criterion_sets.create("S", "ab"),
    "half a criterion": lambda s: s.client.criteria.add_many(["\ud83d"], criterion_set=1),
    "a set of numbers": lambda s: s.client.criterion_sets.create("s", [1]),  # type: ignore[list-item]
    "sampling that is none": lambda s: s.client.experiments.create(
        "e", prompt_template=s.template, collection=s.collection,
        generation_params=3,  # type: ignore[arg-type]
    ),
    "epochs that are none": lambda s: s.client.experiments.run(
        s.experiment, n_epochs="many"  # type: ignore[arg-type]
    ),
    "a label that is none": lambda s: s.client.criteria.update(1, label=3),  # type: ignore[arg-type]
    "a description that is none": lambda s: s.client.collections.update(1, description=3),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("what", MISUSES)
async def test_an_argument_of_another_type(stage: Stage, what: str) -> None:
    """An `InputError` of one line, and nothing is sent."""
    with pytest.raises(InputError) as caught:
        await MISUSES[what](stage)

    assert stage.recorder.requests == []
    assert "\n" not in str(caught.value)
    assert "pydantic.dev" not in str(caught.value)
