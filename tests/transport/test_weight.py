"""What JSON costs once it is read, told from its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from elluminate_async import (
    Collection,
    Criterion,
    GenerationMetadata,
    LLMConfig,
    Message,
    Prompt,
    PromptResponse,
    PromptTemplate,
    Rating,
    TemplateVariables,
)
from elluminate_async.errors import AnswerTooLargeError
from elluminate_async.transport.weight import check_weight

ROW: dict[str, Any] = PromptResponse(
    id=1,
    prompt=Prompt(
        id=2,
        prompt_template=PromptTemplate(
            id=3, name="Quiz", version=1, messages=[{"role": "user", "content": "{{x}}?"}]
        ),
        template_variables=TemplateVariables(
            id=4, input_values={"x": "what"}, collection=Collection(id=5, name="values")
        ),
        messages=[{"role": "user", "content": "what?"}],
    ),
    messages=[Message(role="assistant", content="an answer of some length")],
    generation_metadata=GenerationMetadata(
        llm_model_config=LLMConfig(id=6, name="m"), input_tokens=10, output_tokens=10
    ),
    ratings=[Rating(id=7, criterion=Criterion(id=8, criterion_str="Is it?"), rating="YES")],
).model_dump(mode="json")


def page(rows: list[Any]) -> bytes:
    return json.dumps({"items": rows, "count": len(rows)}).encode()


@pytest.mark.parametrize("count", [0, 1, 500, 2_000])
def test_ordinary_rows_are_light(count: int) -> None:
    """Up to 4 MB they are read in the fastest way."""
    body = page([ROW] * count)
    for _ in range(20):
        assert check_weight(body)


TEXTS = {
    "commas": "," * 2_000_000,
    "json": json.dumps([{"a": [], "b": {}}] * 60_000),
    "code": "if (x[0]) { y[1] = {}; }\n" * 80_000,
    "escapes": "\\" * 1_000_000,
    "quotes": '"' * 1_000_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_within_a_text_weighs_nothing(text: str) -> None:
    """A long answer of commas, of JSON, of code is one text."""
    for _ in range(5):
        check_weight(page([{**ROW, "messages": [{"role": "assistant", "content": text}]}]))


def test_a_wide_table_is_light() -> None:
    """A hundred rows of two hundred short columns."""
    row = {f"column_{number}": str(number) for number in range(200)}
    for _ in range(5):
        check_weight(page([{**ROW, "input_values": row}] * 100))


@pytest.mark.parametrize(
    "element", [b"{}", b"[]", b'{"a":0}', b"[0]", b"0", b'"abc"', b'{"id":1,"name":"p"}']
)
def test_many_small_parts_are_refused(element: bytes) -> None:
    """Two megabytes of them would take more than twenty; also behind a long text."""
    many = b"[" + b",".join([element] * (2_000_000 // (len(element) + 1))) + b"]"
    for body in (many, b'{"text":"' + b"x" * 100_000 + b'","rows":' + many + b"}"):
        for _ in range(200 if element == b"0" else 10):  # digits weigh the least of these
            with pytest.raises(AnswerTooLargeError, match="was not read"):
                check_weight(body)


def test_a_key_for_each_few_bytes_is_refused() -> None:
    """An object of 200,000 keys: each of them is a text and a place of its own."""
    body = json.dumps({f"{number:05x}": 0 for number in range(200_000)}, separators=(",", ":"))
    with pytest.raises(AnswerTooLargeError):
        check_weight(body.encode())


def test_a_small_body_is_never_refused() -> None:
    """Whatever it is made of, it cannot take much."""
    check_weight(b"[" + b"{}," * 100_000 + b"{}]")
