"""Answers that would cost far more than their bytes are refused before they are read."""

from __future__ import annotations

from elluminate_async.errors import AnswerTooLargeError
from elluminate_async.schemas.weight import TIMES_ITS_BYTES, Heaviness, heaviness_of


def check_weight(body: bytes | bytearray) -> bool:
    """Return when ``body`` may be read.

    Returns:
        Whether it may be read in whatever way is the fastest, which takes more memory than
        making Python's objects of it first, and validates before it can be counted.

    Raises:
        AnswerTooLargeError: It would take more than `TIMES_ITS_BYTES`, and than any body may.
    """
    heaviness = heaviness_of(body)
    if heaviness is Heaviness.TOO_HEAVY:
        raise AnswerTooLargeError(
            f"an answer of {len(body)} bytes is made of so many small parts that it would take "
            f"more than {TIMES_ITS_BYTES} times as much memory: it was not read",
            sent=True,
        )
    return heaviness is Heaviness.LIGHT
