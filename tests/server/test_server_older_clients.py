"""Answers in the words of older official clients."""

from __future__ import annotations

import json

from elluminate_async.server.older_clients import readable

RESPONSE = {
    "generation_metadata": {"llm_model_config": None, "input_tokens": 3},
    "messages": [{"role": "system", "content": 'a "role":"system" in a text'}],
    "prompt": {
        "prompt_template": None,
        "messages": [{"role": "system", "content": "s"}],
        "template_variables": {
            "input_values": {"column_type": "persona_goal", "llm_model_name": None},
            "collection": {
                "collection_type": "PERSONA",
                "columns": [{"column_type": "persona_goal"}, {"column_type": "conversation"}],
            },
        },
        "created_at": "2026-01-01T00:00:00Z",
    },
}


def shown(document: object, *version: int) -> dict[str, object]:
    """As a client of that version is answered."""
    return json.loads(readable(json.dumps(document, separators=(",", ":")).encode(), version))  # pyright: ignore[reportArgumentType]


def test_each_version_has_the_words_it_knows() -> None:
    """A later word becomes the nearest that is known; texts of users stay, whatever their keys."""
    first, later = shown(RESPONSE, 0, 6), shown(RESPONSE, 1, 0)

    for answer, known in ((first, ["text", "text"]), (later, ["text", "conversation"])):
        text = json.dumps(answer)
        assert [one["column_type"] for one in _columns(answer)] == known
        assert '"collection_type": "STANDARD"' in text
        assert answer["messages"] == [{"role": "user", "content": 'a "role":"system" in a text'}]
        assert '{"role": "system", "content": "s"}' in text
        assert '{"column_type": "persona_goal", "llm_model_name": null}' in text
    assert '"llm_model_config": {"llm_model_name": "", ' in json.dumps(first)
    assert '"llm_model_config": null' in json.dumps(later)
    assert '"prompt_template": {"id": 0' in json.dumps(first)
    assert '"prompt_template": null' in json.dumps(later)


def test_an_answer_of_known_words_is_not_touched() -> None:
    """Byte for byte, however it is written; texts that look like keys are texts."""
    body = json.dumps({"column_type": "text", "content": '"role":"system"'}, indent=2).encode()
    assert readable(body, (0, 6)) is body


def test_figures_that_are_not_known_are_their_default() -> None:
    """Those that may not be null for them; a mean that is required stays."""
    figures = ("std_all_ratings", "mean_reasoning_tokens", "estimated_total_cost_usd")
    unknown = dict.fromkeys((*figures, "mean_all_ratings", "experiment_duration_seconds"))
    assert shown(unknown, 1, 0) == {**unknown, **dict.fromkeys(figures, 0.0)}


def _columns(answer: dict[str, object]) -> list[dict[str, str]]:
    prompt = answer["prompt"]
    assert isinstance(prompt, dict)
    return prompt["template_variables"]["collection"]["columns"]  # pyright: ignore[reportUnknownVariableType]
