"""What a call is to send."""

from __future__ import annotations

from elluminate_async.operations.json_input import encode
from elluminate_async.operations.response_items import ResponsePlan, ResponseSpec
from elluminate_async.operations.response_rows import text_of
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.responses import GenerationMetadata, ResponseBatchRequest


def test_a_chunks_body_is_that_of_its_model() -> None:
    """Written from plain data, a request has the very bytes that its documented model has."""
    plan = ResponsePlan(7, None, 3, frozenset())
    config = LLMConfig(id=1, llm_model_name="m")
    specs = [
        (ResponseSpec(1), 1),
        (ResponseSpec(2, ({"role": "assistant", "content": "ü\x00\n", "score": float("nan")},)), 2),
        (ResponseSpec(3, metadata=GenerationMetadata(input_tokens=3, llm_model_config=config)), 1),
    ]
    bodies = [plan.body(spec, epoch=epoch) for spec, epoch in specs]
    expected = encode(ResponseBatchRequest(prompt_response_ins=bodies))
    assert plan.batch_body(specs) == expected


def test_the_text_of_what_is_stored_is_known_of_chat_messages_alone() -> None:
    """Of other messages nobody knows in which form the service keeps them."""
    told = {"role": "assistant", "content": "Hello"}
    assert text_of(ResponseSpec(1, [told])) == "Hello"
    assert text_of(ResponseSpec(1, [{"role": 7, "content": [None]}])) is None
