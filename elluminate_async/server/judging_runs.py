"""Judging in a run: what one job has asked of a response no other one asks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from elluminate_async.server.judge import Judgement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from elluminate_async.schemas import Criterion
    from elluminate_async.server.sharing import SharedCalls
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.ratings import JudgeVerdict


class _Asked(NamedTuple):
    """The criteria that one job has asked, and how it ended."""

    criteria: frozenset[int]
    judgement: Judgement


async def judge_once(
    shared: SharedCalls, run_id: int, work: Work, ask: Callable[[Work], Awaitable[Judgement]]
) -> Judgement:
    """Rate one response by those of its criteria that no job of the run is asking, or has asked.

    The others are waited for. What they leave without a verdict is not asked again: it is a failure
    of all who waited for it.
    """
    key = run_id, work.response_id
    verdicts: list[JudgeVerdict] = []
    failures: list[str] = []
    left: list[Criterion] = [*work.criteria]
    number = 0
    while left:
        make = partial(_ask, run_id, replace(work, criteria=left), ask)
        asked = await shared.made(key, number, make)
        number += 1
        of_them = {one.id for one in left} & asked.criteria
        verdicts += [one for one in asked.judgement.verdicts if one.criterion_id in of_them]
        if asked.judgement.failure is not None:
            failures.append(asked.judgement.failure)
        left = [one for one in left if one.id not in of_them]
    is_complete = len(verdicts) == len(work.criteria)
    return Judgement(verdicts, None if is_complete else failures[-1])


async def _ask(run_id: int, work: Work, ask: Callable[[Work], Awaitable[Judgement]]) -> _Asked:
    judgement = await ask(work)
    verdicts = [replace(one, run_id=run_id) for one in judgement.verdicts]
    criteria = frozenset(one.id for one in work.criteria)
    return _Asked(criteria, Judgement(verdicts, judgement.failure))
