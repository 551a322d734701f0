"""Which model answers a request, and how many calls run at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from elluminate_async.server.models.base import ModelError
from elluminate_async.server.models.storable import reason, storable

if TYPE_CHECKING:
    from elluminate_async.server.models.base import Model, ModelAnswer, ModelRequest
    from elluminate_async.server.models.endpoints import Endpoints
    from elluminate_async.server.models.openai import OpenAIModel
    from elluminate_async.server.store.llm_configs import StoredConfig

_CALL_TIMEOUT = 600.0


class ModelPool:
    """All model calls of a server go through here.

    Args:
        default: Answers where no configuration names an endpoint.
        judge: Rates.
        max_calls: Calls in flight, over all jobs and requests.
        endpoints: Those that configurations name.
    """

    def __init__(
        self, default: Model, judge: Model, *, max_calls: int, endpoints: Endpoints
    ) -> None:
        self.endpoints = endpoints
        self.default = default
        self.judge = judge
        self.max_calls = max_calls
        self._permits = asyncio.Semaphore(max_calls)
        self._own: dict[tuple[str, str, str | None], OpenAIModel] = {}

    def of(self, config: StoredConfig) -> Model:
        """The model that a configuration means.

        Raises:
            ModelError: The configuration's endpoint may not be called, or its key is lost.
        """
        url = config.config.llm_base_url
        if url is None:
            return self.default
        name = config.config.llm_model_name or self.default.name
        key = (url, name, config.api_key)
        if key not in self._own:
            self._own[key] = self.endpoints.model(name, url, config.api_key)
        return self._own[key]

    async def complete(self, model: Model, request: ModelRequest) -> ModelAnswer:
        """One call; waiting for its turn does not count as its time.

        Raises:
            ModelError: The model failed in whatever way.
        """
        limit = (request.sampling.timeout if request.sampling else None) or _CALL_TIMEOUT
        async with self._permits:
            clock = asyncio.timeout(limit)
            try:
                async with clock:
                    return storable(await model.complete(request), request)
            except ModelError as error:
                raise ModelError(reason(error)) from error
            except Exception as error:
                if clock.expired():
                    raise ModelError(f"no answer within {limit:g} s") from None
                raise ModelError(reason(error)) from error

    async def aclose(self) -> None:
        """Close the models that were made here."""
        while self._own:
            await self._own.popitem()[1].aclose()
