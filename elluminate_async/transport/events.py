"""The events of an open stream, as its bytes come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from elluminate_async.errors import AttemptTimeoutError, TransportError
from elluminate_async.transport.exchange import NETWORK_ERRORS, Incoming, Request, decompressor_of
from elluminate_async.transport.retry import Policy
from elluminate_async.transport.session import Session
from elluminate_async.transport.sse import Decoder, Event


async def read_events(
    session: Session,
    request: Request,
    incoming: Incoming,
    policy: Policy,
    decoder: Decoder,
    translate: Callable[[BaseException], TransportError],
) -> AsyncGenerator[Event]:
    """The events of an open stream, until it ends.

    Args:
        session: That it came by.
        request: That it answers.
        incoming: The stream.
        policy: How long it may be silent, and until when it is read.
        decoder: Of its bytes; the caller's, who wants its state at the end.
        translate: This package's error for one of the network.

    Raises:
        TransportError: It broke, fell silent, or is no stream.
        DeadlineError: The policy's deadline passed.
    """
    decompressor = decompressor_of(incoming, session.blotter)
    while True:
        seconds = policy.clock(policy.stream_silence)
        failure: TransportError | None = None
        data = b""
        try:
            async with session.running(asyncio.timeout(seconds)):
                data = await incoming.response.content.readany()
        except TimeoutError:
            session.check_open(sent=True)
            policy.remaining()
            failure = AttemptTimeoutError(
                f"{request.target} was silent for {seconds:.3g} s", sent=True
            )
        except NETWORK_ERRORS as error:
            failure = translate(error)
        if failure is not None:
            raise failure
        if not data:
            return
        try:
            for piece in decompressor.feed(data):
                waiting = deque(decoder.feed(piece))
                # Not held here while it is read: it may be of megabytes.
                while waiting:
                    yield waiting.popleft()
        except TransportError as error:
            failure = error.with_traceback(None)
        # What is raised takes this frame along, which is to hold nothing of the stream.
        data = piece = b""
        if failure is not None:
            raise failure
