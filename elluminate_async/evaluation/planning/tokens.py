"""Tokens of a text, counted by tiktoken where it can, else estimated."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from elluminate_async.batch.options import shown
from elluminate_async.errors import InputError

CountTokens: TypeAlias = Callable[[str], int]

_BYTES_A_TOKEN = 4  # of English prose; of Chinese it is about three quarters of a token a character
_VOCABULARIES = ("o200k_base", "cl100k_base")
_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""Where tiktoken has its vocabularies from; their files on disk are named after that."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A way to count tokens.

    Attributes:
        by: Its name, as a plan tells it.
        is_exact: Whether it is the model's own way, as far as is known.
    """

    count: CountTokens
    by: str
    is_exact: bool


def counter_for(model: str | None, count: CountTokens | None = None) -> Counter:
    """How to count the tokens of ``model``; nothing is downloaded for it.

    Args:
        model: Its name at its provider.
        count: The caller's own way.
    """
    if count is not None:
        return Counter(_checked(count), "count_tokens", is_exact=True)
    try:
        import tiktoken
    except ImportError:
        return Counter(estimated, "estimate of 4 bytes a token", is_exact=False)
    own = _vocabulary_of(model)
    for name in dict.fromkeys([own or _VOCABULARIES[0], *_VOCABULARIES]):
        if _is_there(name):
            encoding = tiktoken.get_encoding(name)
            return Counter(_counting(encoding), f"tiktoken {name}", is_exact=name == own)
    name = own or _VOCABULARIES[0]
    told = f"estimate of 4 bytes a token (tiktoken has no vocabulary {name} on this machine)"
    return Counter(estimated, told, is_exact=False)


def _checked(count: CountTokens) -> CountTokens:
    def counted(text: str) -> int:
        tokens = cast("object", count(text))
        if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0:
            return tokens
        told = shown(tokens)
        raise InputError(f"count_tokens must give a whole number of tokens, not {told}")

    return counted


def estimated(text: str) -> int:
    """Tokens of a text, about, without any vocabulary."""
    return -(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN)


def tokens_of(texts: Iterable[str], counter: Counter) -> int:
    """Tokens of the messages of a chat, with what marks each of them and the answer's begin."""
    return 3 + sum(4 + counter.count(text) for text in texts)


def _counting(encoding: Any) -> CountTokens:
    # What looks like a special token is a text as any other.
    return lambda text: len(encoding.encode_ordinary(text))


def _vocabulary_of(model: str | None) -> str | None:
    from tiktoken.model import encoding_name_for_model

    try:
        return encoding_name_for_model(model or "")
    except KeyError:
        return None


def _is_there(vocabulary: str) -> bool:
    """Whether tiktoken has a vocabulary without asking anybody for it."""
    from tiktoken.registry import ENCODINGS

    if vocabulary in ENCODINGS:
        return True
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    name = hashlib.sha1(_ADDRESS.format(vocabulary).encode(), usedforsecurity=False).hexdigest()
    return bool(folder) and (Path(folder) / name).is_file()
