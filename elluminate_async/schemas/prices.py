"""`Prices` of a configuration's tokens, and the cost of a generation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elluminate_async.schemas.generation_metadata import GenerationMetadata
    from elluminate_async.schemas.llm_configs import LLMConfig

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens, in whatever currency the configuration has them."""

    input: float
    output: float

    @classmethod
    def of(cls, config: LLMConfig | None) -> Prices | None:
        """Those of ``config``; None where one of them is not known, or is none."""
        if config is None:
            return None
        prices = (config.input_price_per_mtok, config.output_price_per_mtok)
        known = [price for price in prices if price is not None and 0 <= price < math.inf]
        return cls(*known) if len(known) == len(prices) else None

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """The cost of so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / _MILLION


def cost_of_tokens(tokens: int | None, *prices: float | None) -> float | None:
    """The cost of so many tokens by the first of ``prices`` that is known; None without one."""
    for price in prices:
        if tokens is not None and price is not None and 0 <= price < math.inf:
            return tokens * price / _MILLION
    return None


def cost_of(metadata: GenerationMetadata | None, config: LLMConfig | None) -> float | None:
    """The cost of a generation, by the prices that it tells, else by those of ``config``."""
    if metadata is None or metadata.tokens is None:
        return None
    prices = Prices.of(metadata.llm_model_config) or Prices.of(config)
    return None if prices is None else prices.cost(*metadata.tokens)
