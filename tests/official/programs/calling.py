"""One flow for both halves of an official client: each method, or its asynchronous twin."""

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor


class Caller:
    """Calls methods by name, blocking or awaited, and remembers which.

    The twin has an ``a`` before its name, up to 0.7 on the same object; the methods of
    `AsyncClient` itself have not.
    """

    def __init__(self, *, awaits: bool):
        self.awaits = awaits
        self.called = set()
        if awaits:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)

    def __call__(self, owner, name, /, *args, **kwargs):
        if not self.awaits:
            return self._method(owner, name)(*args, **kwargs)
        return self._loop.run_until_complete(self._awaited(owner, name, args, kwargs))

    def together(self, *calls):
        """Those that wait three seconds between two looks, at once: (owner, name, arguments)."""
        if self.awaits:

            async def all_of_them():
                return await asyncio.gather(
                    *(self._awaited(owner, name, (), kwargs) for owner, name, kwargs in calls)
                )

            return self._loop.run_until_complete(all_of_them())
        with ThreadPoolExecutor() as pool:
            begun = [
                pool.submit(self._method(owner, name), **kwargs) for owner, name, kwargs in calls
            ]
            return [one.result() for one in begun]

    async def _awaited(self, owner, name, args, kwargs):
        result = self._method(owner, name)(*args, **kwargs)
        if hasattr(result, "__aiter__"):
            return [one async for one in result]
        return await result if inspect.isawaitable(result) else result

    def _method(self, owner, name):
        of = next((cls for cls in type(owner).__mro__ if name in vars(cls)), type(owner))
        self.called.add(f"{of.__name__}.{name}")
        twin = f"a{name}"
        return getattr(owner, twin if self.awaits and hasattr(owner, twin) else name)

    def left(self, *classes):
        """Public methods of these that were not called, twins left out."""
        public = {
            f"{cls.__name__}.{name}"
            for cls in {base for cls in classes for base in cls.__mro__}
            if cls.__module__.startswith("elluminate.")
            for name, value in vars(cls).items()
            if inspect.isfunction(value) and not name.startswith(("_", "model_"))
            if not (name.startswith("a") and name[1:] in vars(cls))
        }
        return public - self.called
