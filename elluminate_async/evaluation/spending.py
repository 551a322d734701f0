"""`Spending`: keeps an evaluation below ``max_cost``.

Before a response is asked for, the most that it may cost is set aside; once it is there, what it
did cost takes that place::

    max_cost 1.00    spent 0.20, set aside 0.75: the next, of at most 0.10, waits
                     one of 0.25 at most comes and cost 0.02: spent 0.22, set aside 0.50
                     the next fits

What waits is refused once nothing is set aside any more that could become free.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from elluminate_async.engine.allowance import Allowance
from elluminate_async.errors import InputError, ItemError, OutcomeUnknownError
from elluminate_async.operations.response_items import ResponseSpec
from elluminate_async.schemas.prices import Prices, cost_of
from elluminate_async.schemas.prompt_templates import filled_texts
from elluminate_async.schemas.template_variables import TemplateVariables

if TYPE_CHECKING:
    from elluminate_async.engine.chunks import Item
    from elluminate_async.engine.outcomes import Pairs
    from elluminate_async.engine.records import UnfinishedChunk
    from elluminate_async.evaluation.setup import Setup
    from elluminate_async.schemas.llm_configs import LLMConfig
    from elluminate_async.schemas.prompt_templates import PromptTemplate
    from elluminate_async.schemas.responses import PromptResponse

FIRST_GUESS = 1_000
"""Tokens of an answer, where the configuration has no ``max_tokens`` and none has come yet."""

_PER_MESSAGE = 16  # tokens that mark its role and its ends, in any chat format
_ROUNDING = 1e-9
_READ_AT_ONCE = 1_000  # references of a journal
_MOST = "most"  # of a chunk's facts in the journal


class Spending:
    """The cost that one evaluation has had and set aside, over all its configurations.

    Args:
        most: What it may cost.
        lanes: Number of its configurations: none begins before it is known what an earlier
            run of each has spent.

    Attributes:
        spent: Cost of the responses that have come. What may have been paid for and is not
            known counts as the most that it may have cost.
    """

    def __init__(self, most: float, lanes: int) -> None:
        self.most = most
        self.spent = 0.0
        self._aside = 0.0
        self._to_begin = lanes
        self._changed = anyio.Event()

    async def begun(self) -> None:
        """Wait until all configurations have told what was spent before."""
        while self._to_begin > 0:
            await self._changed.wait()

    def begin(self, spent: float, aside: float = 0.0) -> None:
        """One more has told what it has spent, and what may have been sent and is yet to come."""
        self._to_begin -= 1
        self._aside += aside
        self.settle(0.0, spent)

    async def set_aside(self, cost: float) -> bool:
        """Set aside ``cost``, waiting for room; False when there never will be."""
        while not self.set_aside_now(cost):
            if self._aside <= _ROUNDING * self.most:
                return False
            await self._changed.wait()
        return True

    def set_aside_now(self, cost: float) -> bool:
        """Set aside ``cost`` if there is room."""
        if self.spent + self._aside + cost > self.most * (1 + _ROUNDING):
            return False
        self._aside += cost
        return True

    def settle(self, aside: float, cost: float) -> None:
        """Give back what was set aside, and take what it did cost."""
        self._aside = max(0.0, self._aside - aside)
        self.spent += cost
        self._changed.set()
        self._changed = anyio.Event()


class LaneSpending(Allowance[ResponseSpec]):
    """The spending of one configuration.

    Args:
        whole: Of the evaluation.
        config: The configuration.
        prices: Its prices.
        template: What is filled in for each response.
    """

    def __init__(
        self, whole: Spending, config: LLMConfig, prices: Prices, template: PromptTemplate
    ) -> None:
        self._whole = whole
        self._config = config
        self._prices = prices
        self._messages = template.messages
        self._fixed = _fixed_tokens(config, template)
        self._aside: dict[int, float] = {}
        self._in_doubt: dict[int, float] = {}
        self._done: Mapping[int, Any] = {}
        self._untold: set[int] = set()
        self._has_begun = False
        self._longest = config.max_tokens or 0
        # How many times its estimate a prompt was at most.
        self._scale = 1.0
        self._asked: dict[int, int] = {}
        self._refusal: str | None = None

    async def begin(self, done: Mapping[int, Any], unfinished: Iterable[UnfinishedChunk]) -> None:
        """The configuration begins, or some of it is sent once more.

        The most that unfinished chunks may cost is set aside at once: they are asked for later.
        """
        self._refusal = None
        if self._has_begun:
            return
        spent = 0.0
        for count, (position, of) in enumerate(done.items()):
            if count % _READ_AT_ONCE == 0:
                # Of a million, others do not wait for all.
                await anyio.lowlevel.checkpoint()
            if len(of) > 2 and of[2]:
                spent += self._prices.cost(*of[2])
            else:
                self._untold.add(position)
        self._has_begun, self._done = True, done
        for chunk in unfinished:
            most = dict(zip(chunk.positions, chunk.facts.get(_MOST, ()), strict=False))
            self._aside |= {position: most[position] for position in chunk.left & most.keys()}
        self._whole.begin(spent, sum(self._aside.values()))

    def facts(self, positions: Iterable[int]) -> Mapping[str, Any]:
        """The most that each item of a chunk may cost."""
        return {_MOST: [self._aside.get(position, 0.0) for position in positions]}

    async def admit(self, items: Sequence[Item[ResponseSpec]]) -> int:
        """How many of ``items``, the first ones, fit in what is left; see `Allowance`."""
        await self._whole.begun()
        for count, item in enumerate(items):
            asked = self._asked_tokens(item.value)
            cost = self._prices.cost(asked * self._scale, self._longest or FIRST_GUESS)
            fits = self._whole.set_aside_now(cost)
            if not fits and count:
                return count
            if not fits and (self._refusal is not None or not await self._whole.set_aside(cost)):
                # For good: small ones that still fit would be sent one by one.
                self._refusal = self._refusal or self._refusal_of(cost)
                return 0
            self._aside[item.position], self._asked[item.position] = cost, asked
        return len(items)

    def settle(self, pairs: Pairs[Any]) -> None:
        """Take what ``pairs`` did cost in the place of what was set aside for them."""
        aside = cost = 0.0
        for position, outcome in pairs:
            self._learn(outcome, self._asked.pop(position, 0))
            own = self._aside.pop(position, None)
            if own is not None:
                aside += own
                cost += self._cost(position, outcome, own)
            elif position in self._untold or position not in self._done:
                cost += self._cost_of_earlier(position, outcome)
        self._whole.settle(aside, cost)

    def _learn(self, outcome: PromptResponse | ItemError, asked: int) -> None:
        """Count on what a provider bills beyond what was asked for, from now on."""
        metadata = None if isinstance(outcome, ItemError) else outcome.generation_metadata
        if metadata is None or metadata.tokens is None:
            return
        self._longest = max(self._longest, metadata.tokens[1])
        if asked:
            self._scale = max(self._scale, metadata.tokens[0] / asked)

    def _cost(self, position: int, outcome: PromptResponse | ItemError, aside: float) -> float:
        if isinstance(outcome, OutcomeUnknownError):
            # It may have been paid for.
            self._in_doubt[position] = self._in_doubt.get(position, 0.0) + aside
            return aside
        if isinstance(outcome, ItemError):
            return 0.0
        cost = cost_of(outcome.generation_metadata, self._config)
        return aside if cost is None else cost

    def _cost_of_earlier(self, position: int, outcome: PromptResponse | ItemError) -> float:
        """Of what was sent before, and asked for now, in the place of the most that it cost."""
        if isinstance(outcome, OutcomeUnknownError):
            return 0.0
        return self._cost(position, outcome, 0.0) - self._in_doubt.pop(position, 0.0)

    def refused(self, position: int, operation: str) -> ItemError:
        """The error of an item that would have passed ``max_cost``."""
        return ItemError(
            self._refusal or "not sent, as max_cost might have been passed",
            position=position,
            code="not_sent",
            operation=operation,
            attempts=0,
        )

    def _refusal_of(self, cost: float) -> str:
        text = (
            f"not sent, as max_cost={self._whole.most:g} might have been passed: "
            f"{self._whole.spent:.4g} was spent, and one more may cost {cost:.4g}"
        )
        if self._config.max_tokens:
            return text
        assumed = self._longest or FIRST_GUESS
        return f"{text}, at {assumed} tokens, as the configuration has no max_tokens"

    def _asked_tokens(self, spec: ResponseSpec) -> int:
        """The most tokens that a prompt has."""
        variables = spec.variables
        values = variables.input_values if isinstance(variables, TemplateVariables) else {}
        texts = filled_texts(self._messages, values)
        # A token is one byte at least.
        return self._fixed + sum(len(text.encode(errors="replace")) for text in texts)


def spending_of(max_cost: float, setup: Setup) -> tuple[Spending, list[LaneSpending]]:
    """The spending of an evaluation, and of each of its configurations.

    Raises:
        InputError: A price is not known, so that no cost is.
    """
    whole = Spending(max_cost, len(setup.configurations))
    lanes: list[LaneSpending] = []
    for one in setup.configurations:
        prices = Prices.of(one.llm_config)
        if one.llm_config is None or prices is None:
            raise InputError(
                f"max_cost needs the prices of the configuration {one.name!r}, and it has none: "
                "use one that was created with input_price_per_mtok and output_price_per_mtok, or "
                "leave max_cost out"
            )
        lanes.append(LaneSpending(whole, one.llm_config, prices, setup.template))
    return whole, lanes


def _fixed_tokens(config: LLMConfig, template: PromptTemplate) -> int:
    """At most the tokens of a prompt beside the texts of its template."""
    beside = [config.system_message or ""]
    for part in (template.response_format_json_schema, template.tools):
        beside.append(json.dumps(part, default=str) if part else "")
    messages = len(template.messages) + 1
    return _PER_MESSAGE * messages + sum(len(text.encode(errors="replace")) for text in beside)
