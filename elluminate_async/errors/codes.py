"""`ItemErrorCode`: the machine-readable reasons for which an item of a batch fails.

| code | what happened |
|---|---|
| ``generation_failed`` | The model gave no answer. |
| ``rating_failed`` | The judge gave no verdict. |
| ``incomplete`` | The judge gave a verdict for some criteria and not for others. |
| ``no_result`` | The service has no result for the item, or one of another input. |
| ``job_failed`` | The service ended the job that the item was in. |
| ``revoked`` | Its job was cancelled before it was done, by somebody else than its call. |
| ``outcome_unknown`` | It was sent, and nothing proves whether it was processed. |
| ``stalled`` | Its job has shown nothing new for ``job_stall`` seconds. |
| ``deadline`` | The call's deadline passed before it was done. |
| ``not_sent`` | The call ended before it was sent. |
| ``unavailable`` | The service has answered nobody for ``retry_for`` seconds. |
| ``connect`` | No connection came about; nothing was sent. |
| ``timeout`` | An attempt got no answer in its time. |
| ``transport`` | The connection broke. |
| ``protocol`` | The answer is not what the protocol says. |
| ``answer_too_large`` | The answer is larger than the client takes. |
| ``bad_input`` | The item itself cannot be sent. |
| ``key_conflict`` | Its run has another item, or another way to rate it, under its key. |
| ``failed`` | None of these. |
| ``http_<status>`` | The service answered with that status. One that is not registered counts as the first of its class (RFC 9110 §15): 520 is ``http_500``, and `ItemError.status` has 520. |
"""  # noqa: E501

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias, TypeGuard, get_args

_Own: TypeAlias = Literal[
    "answer_too_large",
    "bad_input",
    "connect",
    "deadline",
    "failed",
    "generation_failed",
    "incomplete",
    "job_failed",
    "key_conflict",
    "no_result",
    "not_sent",
    "outcome_unknown",
    "protocol",
    "rating_failed",
    "revoked",
    "stalled",
    "timeout",
    "transport",
    "unavailable",
]

# https://www.iana.org/assignments/http-status-codes; 3xx is that of a redirect gone wrong.
_HTTP: TypeAlias = Literal[
    "http_300",
    "http_400",
    "http_401",
    "http_402",
    "http_403",
    "http_404",
    "http_405",
    "http_406",
    "http_407",
    "http_408",
    "http_409",
    "http_410",
    "http_411",
    "http_412",
    "http_413",
    "http_414",
    "http_415",
    "http_416",
    "http_417",
    "http_421",
    "http_422",
    "http_423",
    "http_424",
    "http_425",
    "http_426",
    "http_428",
    "http_429",
    "http_431",
    "http_451",
    "http_500",
    "http_501",
    "http_502",
    "http_503",
    "http_504",
    "http_505",
    "http_506",
    "http_507",
    "http_508",
    "http_510",
    "http_511",
]

ItemErrorCode: TypeAlias = _Own | _HTTP

_OF_STATUS: Final = re.compile("http_([1-9][0-9]{2})")

ITEM_ERROR_CODES: Final[frozenset[str]] = frozenset((*get_args(_Own), *get_args(_HTTP)))


def item_code(text: str, otherwise: ItemErrorCode = "failed") -> ItemErrorCode:
    """``text`` where it is a code; ``otherwise`` for what is none, such as a later version's.

    That of a status that is not registered is `http_code`'s.
    """
    if _is_code(text):
        return text
    status = status_in(text)
    return otherwise if status is None else http_code(status)


def http_code(status: int) -> ItemErrorCode:
    """``http_<status>``, or the first of its class where that status is not registered."""
    exact, of_class = f"http_{status}", f"http_{status // 100}00"
    if _is_code(exact):
        return exact
    return of_class if _is_code(of_class) else "failed"


def status_in(text: str) -> int | None:
    """The status that a code is of, registered or not; None for any other code."""
    told = _OF_STATUS.fullmatch(text)
    return None if told is None else int(told[1])


def _is_code(text: str) -> TypeGuard[ItemErrorCode]:
    return text in ITEM_ERROR_CODES
