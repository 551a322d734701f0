"""A deterministic stand-in for a model: no network, no intelligence, and it says so."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from elluminate_async.schemas.prompt_templates import PLACEHOLDER
from elluminate_async.server.llms.base import ModelAnswer, text_of

if TYPE_CHECKING:
    from elluminate_async.schemas import LLMConfig
    from elluminate_async.server.llms.base import ModelRequest

MARK = "[offline model, no LLM was called]"
"""Begins every answer in prose."""

_WORD = re.compile(r"\w[\w'-]{3,}")
_YES_PERCENT = 70
_OWN = "default"  # the configuration that stands for the server's own model


class OfflineModel:
    """Answers from the words of the prompt: equal prompts alike, others differently.

    Configurations differ by their name, their model's name and their temperature.

    Attributes:
        name: ``offline``.
        delay: Seconds that each answer takes.
    """

    name = "offline"

    def __init__(self, *, delay: float = 0) -> None:
        self.delay = delay

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Answer after `delay`; token counts are not known."""
        if self.delay:
            await asyncio.sleep(self.delay)
        prompt = "\n".join(text_of(message) for message in request.messages)
        if request.nonce:
            prompt = prompt.replace(request.nonce, "")
        seed = _seed(prompt, request.sampling)
        if request.purpose == "criteria":
            return ModelAnswer(json.dumps({"criteria": _criteria(prompt)}))
        if request.json_schema is not None:
            return ModelAnswer(json.dumps(_fill(request.json_schema.schema, seed, "")))
        return ModelAnswer(_prose(prompt, seed))

    async def aclose(self) -> None:
        """Hold nothing, give nothing back."""


def _seed(prompt: str, config: LLMConfig | None) -> str:
    """The prompt, and what makes configurations differ; the server's own adds nothing."""
    if config is None:
        return prompt
    own = (config.name or _OWN, config.llm_model_name or OfflineModel.name, config.temperature)
    return prompt if own == (_OWN, OfflineModel.name, None) else f"{prompt}\0{own}"


def _prose(prompt: str, seeded: str) -> str:
    words = list(dict.fromkeys(_WORD.findall(prompt))) or ["nothing"]
    seed = _number(seeded)
    first, second, third = (words[(seed >> shift) % len(words)] for shift in (0, 16, 32))
    return (
        f"{MARK} You asked: {prompt.strip()[:400]} "
        f"A real model would now speak of {first} and how it bears on {second}. "
        f"It might give an example about {third}, {seed % 97} lines long. "
        f"Nothing here was reasoned: the text follows from the {len(words)} different words "
        "of the prompt alone."
    )


def _criteria(prompt: str) -> list[str]:
    names = list(dict.fromkeys(PLACEHOLDER.findall(prompt)))
    about = [
        f"Does the response deal with the given {name.replace('_', ' ')}?" for name in names[:3]
    ]
    return [
        *about,
        "Does the response do all that the prompt asks for?",
        "Is the response free of contradictions?",
        "Is the response clear to a reader who knows only the prompt?",
    ]


def _fill(schema: dict[str, Any], prompt: str, path: str) -> Any:
    """A value of the schema's form that follows from the prompt and the place in it."""
    about = f"{path} {schema.get('description', '')}"
    number = _number(about, prompt)
    if choices := schema.get("enum"):
        return _verdict(number) if set(choices) == {"YES", "NO"} else choices[number % len(choices)]
    kind = schema.get("type")
    if kind == "object":
        properties: dict[str, dict[str, Any]] = schema.get("properties", {})
        return {name: _fill(part, prompt, f"{about} {name}") for name, part in properties.items()}
    if kind == "array":
        return [_fill(schema.get("items", {}), prompt, f"{about} 0")]
    plain = {"integer": number % 100, "number": number % 100 / 10, "boolean": number % 2 == 0}
    return plain.get(str(kind), f"{MARK} {number % 10_000:04} for {about.strip()}")


def _verdict(number: int) -> str:
    return "YES" if number % 100 < _YES_PERCENT else "NO"


def _number(*texts: str) -> int:
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
