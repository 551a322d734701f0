"""Which model answers a request, and how many calls run at once."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elluminate_async.server.llms.base import BusyError, ModelError
from elluminate_async.server.llms.callers import Caller, Callers
from elluminate_async.server.llms.lines import Bounds, Line
from elluminate_async.server.llms.permits import Permits
from elluminate_async.server.llms.retrying import Patience
from elluminate_async.server.llms.silence import SilenceWatch
from elluminate_async.server.llms.storable import reason, storable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from elluminate_async.server.llms.base import Model, ModelAnswer, ModelRequest
    from elluminate_async.server.llms.endpoints import Endpoints
    from elluminate_async.server.llms.openai import OpenAIModel
    from elluminate_async.server.store.llm_configs import StoredConfig

SILENCE = 600.0
"""Seconds without a piece of the answer after which a call has failed, unless its
configuration says other."""

LONGEST_TIMEOUT = 3600
"""Seconds that a configuration may allow for that, and that an answer may take as a whole."""


@dataclass
class Figures:
    """Counts of the model calls so far.

    Attributes:
        calls: Answers, and attempts that failed.
        repeated: Attempts after the first of a call.
        malformed: Answers that did not hold what was asked for.
        repaired: Of these, those that a further question put right.
    """

    calls: int = 0
    repeated: int = 0
    malformed: int = 0
    repaired: int = 0


def _ends_more(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Whether it is nothing of the model's: the process is to end, or the event loop was closed.

    A model may raise a `GeneratorExit` too, and then ``task`` is running.
    """
    if not isinstance(error, GeneratorExit):
        return isinstance(error, KeyboardInterrupt | SystemExit)
    try:
        return asyncio.current_task() is not task
    except RuntimeError:
        return True


class ModelPool:
    """All model calls of a server go through here.

    Args:
        default: Answers where no configuration names an endpoint.
        judge: Rates.
        max_calls: Calls in flight, over all jobs and requests.
        endpoints: Those that configurations name.

    Attributes:
        figures: What was asked so far.
        unread_forms: Answers of the judge in a row in which no verdict was in the form.
    """

    def __init__(
        self, default: Model, judge: Model, *, max_calls: int, endpoints: Endpoints
    ) -> None:
        self.endpoints = endpoints
        self.default = default
        self.judge = judge
        self.max_calls = max_calls
        self.figures = Figures()
        self.unread_forms = 0
        self._has_stopped = False
        self._permits = Permits(max_calls)
        self._callers = Callers()
        self._silence = SilenceWatch()
        self._own: dict[tuple[int | None, str, str, str | None], OpenAIModel] = {}
        self._lines: dict[int, Line] = {}
        self._bounds: dict[int, Bounds] = {}
        for model in (default, judge):
            self._permits.expect(self._line(model).endpoint, is_operators=True)

    def of(self, config: StoredConfig) -> Model:
        """The model that a configuration means.

        Raises:
            ModelError: The configuration's endpoint may not be called, or its key is lost.
        """
        url, id = config.config.llm_base_url, config.config.id
        if not config.is_default and id is not None and id not in self._bounds:
            self._bounds[id] = Bounds(config.config)
        if url is None:
            return self.default
        name = config.config.llm_model_name or self.default.name
        key = (id, url, name, config.api_key)
        if key not in self._own:
            self._own[key] = self.endpoints.model(name, url, config.api_key)
        return self._own[key]

    def reads_forms(self, most_unread: int, tried_again: int) -> bool:
        """Whether to ask the judge for all verdicts in one form.

        One that has left so many in a row unread is asked simply; now and then it is tried again.
        """
        if self.unread_forms < most_unread:
            return True
        self.unread_forms += 1
        return self.unread_forms % tried_again == 0

    def expect(self, url: str) -> None:
        """Learn of an endpoint that will be called, for which others are to leave room."""
        self._permits.expect(url)

    @property
    def has_stopped(self) -> bool:
        """Whether no call is begun any more."""
        return self._has_stopped

    def stop(self) -> None:
        """Begin no call any more: those under way are cancelled, but may go on all the same."""
        self._has_stopped = True

    async def drain(self) -> None:
        """Begin no call any more, and return when those under way have ended.

        Who waits for a turn waits until it is cancelled.
        """
        await self._permits.drain()

    def caller(self, project_id: int) -> Caller:
        """A job or a single request of a project, which is to have its fair share of the calls."""
        return self._callers.of(project_id)

    async def complete(self, model: Model, request: ModelRequest, caller: Caller) -> ModelAnswer:
        """One call, made again where that is safe; waiting for its turn is not its time.

        Raises:
            ModelError: The model failed in whatever way.
        """
        line = self._line(model)
        config = request.sampling
        bounds = self._bounds.get(config.id) if config is not None and config.id else None
        patience: Patience | None = None
        while True:
            self.figures.calls += 1
            try:
                if bounds is not None:
                    async with bounds.place(self._permits, line, request, caller) as learn:
                        answer = await self._attempt(model, request, line)
                        learn(answer)
                else:
                    if not line.try_enter(self._permits, caller):
                        await line.enter(self._permits, caller)
                    try:
                        answer = await self._attempt(model, request, line)
                    finally:
                        line.leave(self._permits, caller)
            except BusyError as error:
                patience = patience or Patience(config.max_retries if config else None)
                wait = patience.wait(error, line)
                if wait is None:
                    raise ModelError(reason(error)) from error
                await asyncio.sleep(wait)
                self.figures.repeated += 1
                continue
            line.accepted()
            return answer

    async def _attempt(self, model: Model, request: ModelRequest, line: Line) -> ModelAnswer:
        if self._has_stopped:
            raise ModelError("the server has ended")
        if left := line.refusal.left():
            raise ModelError(f"the endpoint is to be left alone for {left:.0f} s more, as it said")
        limit = _silence(request)
        listening = self._silence.listen(limit, LONGEST_TIMEOUT)
        request.pulse.listener = listening.heard
        task = asyncio.current_task()
        try:
            with listening:
                return storable(await _awaitable(model, request), request)
        except BusyError:
            raise
        except asyncio.CancelledError:
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled this task: it is of something that the model itself waited for.
            raise ModelError("the model's own work was cancelled") from None
        except ModelError as error:
            raise ModelError(reason(error)) from error
        except BaseException as error:
            if _ends_more(error, task):
                raise
            # Such as a test's own failure, which pytest raises past what handles exceptions.
            if listening.is_over:
                what = "nothing more of the answer" if listening.has_begun else "no answer"
                raise ModelError(f"{what} within {limit:g} s") from None
            raise ModelError(reason(error)) from error
        finally:
            request.pulse.listener = None

    def _line(self, model: Model) -> Line:
        line = self._lines.get(id(model))
        if line is None:
            url: object = getattr(model, "base_url", None)
            endpoint = url if isinstance(url, str) else f"{model.name} {id(model)}"
            line = self._lines[id(model)] = Line(endpoint, self.max_calls)
            self._permits.expect(endpoint)
        return line

    async def aclose(self) -> None:
        """Close the models that were made here."""
        self._silence.close()
        while self._own:
            await self._own.popitem()[1].aclose()


def _awaitable(model: Model, request: ModelRequest) -> Awaitable[ModelAnswer]:
    # Looked at by what it gives: a plain function that returns a coroutine will do.
    begun: object = model.complete(request)
    if inspect.isawaitable(begun):
        return begun
    kind = type(model).__name__
    raise ModelError(
        f"complete of this {kind} returned a {type(begun).__name__} that cannot be awaited: "
        "declare it `async def complete(self, request)`; what blocks goes into "
        "asyncio.to_thread"
    )


def _silence(request: ModelRequest) -> float:
    """Seconds that a call may be silent; earlier versions stored any number."""
    given = request.sampling.timeout if request.sampling else None
    return min(given, LONGEST_TIMEOUT) if given and given > 0 else SILENCE
