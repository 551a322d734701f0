"""Queues and bounds for the calls of one model, and for those by one configuration."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from elluminate_async.limits.adaptive import AdaptiveGate
from elluminate_async.limits.fairness import FairGate
from elluminate_async.limits.hold import Hold, Refusal
from elluminate_async.limits.weights import per_minute

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from elluminate_async.limits.weights import Sent, WeightedGate
    from elluminate_async.schemas import LLMConfig
    from elluminate_async.server.llms.base import ModelAnswer, ModelRequest
    from elluminate_async.server.llms.callers import Caller
    from elluminate_async.server.llms.permits import Permits

LONGEST_HOLD = 300.0
"""Seconds of `Retry-After` that are waited for."""

_ASKED_AGAIN_AFTER = 60.0
_FIRST_OUTPUT_TOKENS = 256.0
_CHARACTERS_A_TOKEN = 4
_LEARNING_SHARE = 0.1
_MOST_TOKENS = 1 << 31


class Line:
    """The way to one model.

    Attributes:
        endpoint: Whose permits its calls take.
        gate: Calls at once; fewer while the endpoint says that it is too much.
        hold: A time in which it asked to be left alone.
        refusal: The same, where that is longer than anybody waits: calls fail at once.
    """

    def __init__(self, endpoint: str, most: int) -> None:
        self.endpoint = endpoint
        self.gate = AdaptiveGate(most)
        self.hold = Hold()
        self.refusal = Refusal()
        self._away_since: float | None = None

    def try_enter(self, permits: Permits, caller: Caller) -> bool:
        """Take a place among its calls, and a permit, if nothing is to be waited for."""
        share = caller.share(self.gate)
        if self.hold.left() or not share.try_acquire():
            return False
        if permits.try_acquire(self.endpoint, caller):
            return True
        share.release()
        return False

    async def enter(self, permits: Permits, caller: Caller) -> None:
        """Take both, outside of every hold."""
        share = caller.share(self.gate)
        while not self.try_enter(permits, caller):
            await self.hold.wait()
            await share.acquire()
            try:
                await permits.acquire(self.endpoint, caller)
            except BaseException:
                share.release()
                raise
            if not self.hold.left():
                return
            self.leave(permits, caller)

    def leave(self, permits: Permits, caller: Caller) -> None:
        """Give both back."""
        permits.release(self.endpoint, caller)
        caller.share(self.gate).release()

    def accepted(self) -> None:
        """Learn that the endpoint took a call."""
        self._away_since = None
        self.gate.accepted()

    def refused(self, retry_after: float | None) -> None:
        """Learn that the endpoint said it is too much."""
        self._away_since = None
        self.gate.refused()
        if retry_after is None:
            return
        if retry_after > LONGEST_HOLD:
            self.refusal.begin(retry_after, _ASKED_AGAIN_AFTER)
        else:
            self.hold.begin(retry_after)

    def answered(self) -> None:
        """Learn that somebody took the connection, whatever came of it."""
        self._away_since = None

    def away(self) -> None:
        """Learn that nobody took the connection."""
        if self._away_since is None:
            self._away_since = time.monotonic()

    def away_for(self) -> float:
        """Seconds for which nobody has taken a connection."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since


class Bounds:
    """The bounds of one configuration: calls at once, requests and tokens in any minute.

    Args:
        config: Read once; the bounds of one that is replaced end with it.
    """

    def __init__(self, config: LLMConfig) -> None:
        self._gate = FairGate(max(1, config.max_connections))
        self._requests = _window(config.requests_per_minute)
        self._tokens = _window(config.tokens_per_minute)
        self._output_tokens = _FIRST_OUTPUT_TOKENS

    @asynccontextmanager
    async def place(
        self, permits: Permits, line: Line, request: ModelRequest, caller: Caller
    ) -> AsyncGenerator[Callable[[ModelAnswer], None]]:
        """A place in the line that is inside all bounds; call what it yields with the answer."""
        share = caller.share(self._gate)
        await share.acquire()
        try:
            sent = await self._enter(permits, line, self._estimate(request), caller)
            try:
                yield partial(self._learn, sent)
            finally:
                line.leave(permits, caller)
        finally:
            share.release()

    async def _enter(
        self, permits: Permits, line: Line, tokens: int, caller: Caller
    ) -> Sent | None:
        share = caller.share(self._gate)
        async with AsyncExitStack() as turns:
            count = count_tokens = None
            if self._requests is not None:
                count = await turns.enter_async_context(self._requests.turn(1, share))
            if self._tokens is not None:
                count_tokens = await turns.enter_async_context(self._tokens.turn(tokens, share))
            # The turns are held until the call begins: what is counted is what is sent.
            await line.enter(permits, caller)
            if count is not None:
                count()
            return count_tokens() if count_tokens is not None else None

    def _learn(self, sent: Sent | None, answer: ModelAnswer) -> None:
        """Put the usage that was told in the place of the estimate."""
        given, made = answer.input_tokens, answer.output_tokens
        if self._tokens is not None and sent is not None and _is_figure(given, made):
            self._tokens.amend(sent, (given or 0) + (made or 0))
            self._output_tokens += _LEARNING_SHARE * ((made or 0) - self._output_tokens)

    def _estimate(self, request: ModelRequest) -> int:
        characters = sum(len(str(message.get("content"))) for message in request.messages)
        return characters // _CHARACTERS_A_TOKEN + round(self._output_tokens)


def _window(most: int | None) -> WeightedGate | None:
    return None if most is None else per_minute(most)


def _is_figure(*values: object) -> bool:
    # What an endpoint tells may be anything.
    return all(type(value) is int and 0 <= value < _MOST_TOKENS for value in values)
