"""Records of saved runs, as `EvaluationRecord.to_dict` has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

CRITERIA = (
    "Does it name the language's own feature?",
    "Is every statement about the language correct?",
    "Is it short enough for a tooltip?",
)
_LANGUAGES = ("Python", "Go", "Rust", "C", "Perl", "Haskell", "COBOL", "Zig")
_QUIRKS = ("mutable defaults", "truthiness of values", "whitespace rules", "integer overflow")


def record(position: int, row: int, config: str = "default", **changes: Any) -> dict[str, Any]:
    """One that was answered with YES by each criterion."""
    given: dict[str, Any] = {
        "position": position,
        "row": row,
        "config": config,
        "epoch": 1,
        "input": {"word": f"word{row}"},
        "response_id": 1_000 + position,
        "response": f"echo word{row}",
        "error": None,
        "ratings": ratings("YES", "YES"),
        "rating_error": None,
        "passed": True,
        "input_tokens": 40,
        "output_tokens": 20,
        "duration_seconds": 1.5,
        "cost": 0.001,
    }
    return given | changes


def ratings(*values: str, names: Sequence[str] = CRITERIA, why: str = "") -> list[dict[str, Any]]:
    """One for each value, of the first criteria."""
    return [
        {
            "id": index,
            "criterion_id": index + 1,
            "criterion": names[index],
            "label": None,
            "rating": value,
            "reasoning": why,
        }
        for index, value in enumerate(values)
    ]


def failed(position: int, row: int, config: str = "default", **changes: Any) -> dict[str, Any]:
    """One without a response."""
    error = {"code": "llm_timeout", "text": "no answer in 30 s", "operation": "generate"}
    nothing: dict[str, Any] = dict.fromkeys((
        "response_id", "response", "ratings", "passed", "input_tokens", "output_tokens",
        "duration_seconds", "cost",
    ))  # fmt: skip
    given = {"error": error | {"attempts": 3, "position": position}}
    return record(position, row, config, **(nothing | given | changes))


def unrated(position: int, row: int, config: str = "default", **changes: Any) -> dict[str, Any]:
    """One whose judge failed."""
    error = {"code": "failed", "text": "no verdict in it", "operation": "rate", "attempts": 2}
    given = {"ratings": None, "passed": None, "rating_error": error}
    return record(position, row, config, **(given | changes))


def run(
    rows: int,
    configs: Sequence[str] = ("small", "large"),
    *,
    epochs: int = 1,
    harder: float = 0.0,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """A run whose failures gather at two of eight languages; 3 of 100 were not measured."""
    random = Random(seed)
    found: list[dict[str, Any]] = []
    for row in range(rows):
        for index, config in enumerate(configs):
            for epoch in range(1, epochs + 1):
                language = _LANGUAGES[row % 8]
                hard = harder - 0.06 * index + (0.25 if language in ("COBOL", "Perl") else 0)
                found.append(_answered(random, len(found), row, config, epoch, hard))
    return found


def _answered(
    random: Random, position: int, row: int, config: str, epoch: int, hard: float
) -> dict[str, Any]:
    language, quirk = _LANGUAGES[row % 8], _QUIRKS[row // 3 % 4]
    fate = random.random()
    kind: Callable[..., dict[str, Any]] = (
        failed if fate < 0.02 else unrated if fate < 0.03 else record
    )
    text = f"In {language}, {quirk} surprise newcomers: the rule is applied when the definition "
    text += "is evaluated, and not when it is used. "
    text += "It helps to try a small example at hand. " * random.randint(1, 5)
    changes: dict[str, Any] = {"input": {"language": language, "quirk": quirk, "number": row}}
    if kind is not failed:
        changes |= {
            "response": text,
            "output_tokens": len(text) // 4,
            "duration_seconds": random.lognormvariate(0, 0.5) * (2 if config == "large" else 1),
            "cost": None if config == "large" else len(text) * 5e-7,
        }
    if kind is record:
        values = ["NO" if random.random() < base + hard else "YES" for base in (0.06, 0.12, 0.2)]
        changes["ratings"] = ratings(*values, why=f"It speaks of {quirk}, and says when.")
        changes["passed"] = "NO" not in values
    return kind(position, row, config, epoch=epoch, **changes)
