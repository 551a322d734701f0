"""Texts of models and data as a page can show them: whole, harmless and bounded.

Three rules keep a text a text. Jinja2 escapes what it writes; data for the script stands in JSON
in which no character can end its element, see `embedded`; and the script only ever sets
``textContent``. What would reorder the text around it, or has no glyph, is written out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any, Final

from elluminate_async.tables.values import json_of_any

# Controls but for tab, line feed and carriage return; half characters; the controls that embed,
# override or isolate a direction of writing, which could pass one text off as another
# (CVE-2021-42574); and what is no character at all.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_NOT_IN_A_SCRIPT: Final = str.maketrans(
    {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
)


def shown(text: object, limit: int | None = None) -> str:
    """``text`` without characters that are not seen: each is written as ``[U+202E]``.

    Args:
        text: Any value; what is no text is written as `str` has it.
        limit: So many characters are kept, and a note tells how many there were.
    """
    whole = text if isinstance(text, str) else str(text)
    kept = whole if limit is None else whole[:limit]
    clean = _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", kept)
    if len(kept) < len(whole):
        clean += f"\n… (cut: {len(whole):,} characters in all)"
    return clean


def excerpt(text: object, limit: int) -> str:
    """The beginning of ``text`` on one line."""
    whole = text if isinstance(text, str) else str(text)
    line = " ".join(whole[: 4 * limit].split())
    cut = len(line) > limit or len(whole) > 4 * limit
    return shown(line[:limit]) + ("…" if cut else "")


def text_of(value: object) -> str:
    """A cell of a row as text: texts as they are, all else as indented JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, date | time):
        return value.isoformat()
    plain = json_of_any(value)
    if isinstance(plain, str):
        return plain
    return json.dumps(plain, ensure_ascii=False, indent=2)


def number(value: object) -> float | None:
    """``value`` where it is a finite number, else None: what is not known is never 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def mapping(value: object) -> Mapping[str, Any] | None:
    """``value`` where it is a mapping, else None."""
    return value if isinstance(value, Mapping) else None  # pyright: ignore[reportUnknownVariableType]


def embedded(value: object) -> str:
    """``value`` as JSON that can stand in a ``script`` element, and in JavaScript.

    ``<``, ``>`` and ``&`` are escaped, so that neither ``</script>`` nor ``<!--`` is in it, and so
    are the two line ends that JavaScript once did not allow in a text.

    Source: HTML, 4.12.1.3, restrictions for contents of script elements.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_NOT_IN_A_SCRIPT)
