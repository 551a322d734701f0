"""Every exception of the package but `BatchError`, which lives with `Batch`.

::

    ElluminateError
    ├── ConfigurationError (ValueError)     settings that cannot work: no key, a bad URL
    │   └── AmbiguousProjectError           several projects, and none of them was chosen
    ├── InputError (ValueError)             an argument that cannot work, found before sending
    │   └── NoTextError                     a text with half a character, which is none
    ├── ClientClosedError (RuntimeError)    the client was closed
    ├── WrongEventLoopError (RuntimeError)  the client belongs to another event loop
    ├── MissingExtraError (ImportError)     an optional dependency is not installed
    ├── UnsupportedError                    the service cannot do that, and was not asked
    ├── DeadlineError (TimeoutError)        the deadline passed before an answer
    ├── ServiceUnavailableError             the service has answered nobody for a while
    ├── TransportError                      no complete, readable answer
    │   ├── ConnectError                    no byte of the request was sent
    │   │   └── ProxyError                  a proxy is in the way
    │   ├── AttemptTimeoutError (TimeoutError)
    │   └── ProtocolError                   an answer that does not follow the protocol
    │       ├── AnswerTooLargeError         over the client's cap, or far costlier than its bytes
    │       └── RedirectError               a redirect that is not followed
    ├── JournalError                        a journal that cannot be used, or is of another call
    ├── JobError                            the service ended a job without success
    ├── PartialUploadError                  some of an upload of agents' results was not taken
    ├── APIError                            a complete answer that says no
    │   ├── AuthenticationError             401
    │   ├── PermissionDeniedError           403
    │   ├── NotFoundError                   404, or no object of that name
    │   ├── ConflictError                   409
    │   ├── PayloadTooLargeError            413
    │   ├── RejectedError                   400, 422
    │   │   └── TaskMatchError              agents' results that are of no task of the experiment
    │   ├── RateLimitError                  429
    │   └── ServerError                     5xx, 408, 421, 424, 425
    └── ItemError                           one position of a batch
        ├── GenerationError                 the model gave no answer for it
        ├── RatingError                     the judge gave no complete verdict for it
        ├── InputChangedError               the service has another input under its id
        └── OutcomeUnknownError             it was sent, and what became of it is not known

All of them carry data, not only prose, and survive pickling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from elluminate_async.errors.base import ElluminateError as ElluminateError
from elluminate_async.errors.base import InputError as InputError
from elluminate_async.errors.base import NoTextError as NoTextError
from elluminate_async.errors.base import one_line as one_line
from elluminate_async.errors.base import partial_of as partial_of
from elluminate_async.errors.codes import ItemErrorCode as ItemErrorCode
from elluminate_async.errors.codes import http_code
from elluminate_async.errors.items import GenerationError as GenerationError
from elluminate_async.errors.items import InputChangedError as InputChangedError
from elluminate_async.errors.items import ItemError as ItemError
from elluminate_async.errors.items import OutcomeUnknownError as OutcomeUnknownError
from elluminate_async.errors.items import RatingError as RatingError
from elluminate_async.errors.local import JournalError as JournalError
from elluminate_async.errors.local import MissingExtraError as MissingExtraError
from elluminate_async.errors.uploads import PartialUploadError as PartialUploadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

DETAIL_LIMIT = 4_000
"""Characters of a service's error text that are kept; the rest is cut."""


class ConfigurationError(ElluminateError, ValueError):
    """The settings cannot work; the text says which to change. Nothing was sent."""


class AmbiguousProjectError(ConfigurationError):
    """The credential sees several projects, and which is meant was not said.

    Nothing was sent but the request for their list.

    Attributes:
        projects: Name by id, of those that may be meant.
    """

    def __init__(self, message: str, *, projects: Mapping[int, str]) -> None:
        super().__init__(message)
        self.projects = dict(projects)


class ClientClosedError(ElluminateError, RuntimeError):
    """The client is closed. Make a new one; a closed client cannot be opened again."""


class WrongEventLoopError(ElluminateError, RuntimeError):
    """The client was first used in another event loop, or in the process that forked this one.

    Make one client per loop. One that was made and not used is as new in a forked process. It is
    raised too where no loop of asyncio's runs, as under trio: `anyio.from_thread` has a portal.
    """


class DeadlineError(ElluminateError, TimeoutError):
    """The deadline of the call passed before there was an answer.

    Attributes:
        attempts: How often the request was sent before that.
        retry_after: Seconds for which the service's refusals kept the call back yet: what was left
            of the wait that it asked for, or of the pace that follows them.
    """

    attempts: int = 0
    retry_after: float | None = None


class ServiceUnavailableError(ElluminateError):
    """The service has answered nobody for ``retry_for`` seconds, so this call did not wait.

    While the outage lasts every call fails so, at once; as soon as the service answers,
    calls go through again.

    Attributes:
        since: When the first of the requests failed that nobody was answered since; UTC.
        last: How the last one failed.
        retry_after: Seconds until the service is asked again: a call before that fails alike.
        attempts: How often this call's request was sent.
        own: How this call's request failed itself, if it was sent; ``last`` may be another's.
    """

    code: ClassVar[ItemErrorCode] = "unavailable"
    attempts: int = 0
    own: ElluminateError | None = None

    def __init__(self, *, since: datetime, last: str, retry_after: float) -> None:
        super().__init__(
            f"the service is unavailable: no answer since {since:%Y-%m-%d %H:%M:%S} UTC, "
            f"last: {last} (it is asked again in {retry_after:.0f} s)"
        )
        self.since = since
        self.last = last
        self.retry_after = retry_after


class PlaceholderWarning(UserWarning):
    """A prompt template has what looks like a placeholder and is none: it is sent as it stands.

    The name of one is of letters, digits and underscores: ``{{first_name}}``. With a space, a
    dot or a dash in it, as in ``{{first name}}``, the service takes it for text. Where it is
    meant as text, `warnings.filterwarnings` silences this.
    """


class UnsupportedError(ElluminateError):
    """The service does not say that it can do this: it was not asked, and nothing has changed."""


class PairingWarning(UserWarning):
    """Two evaluations were compared that have no row in common: nothing was measured.

    `Comparison.reason` has the same text.
    """


class TransportError(ElluminateError):
    """No complete, readable answer came back.

    Attributes:
        sent: False when no byte of the request left this machine, so that sending again
            is safe; True when the service may have processed it.
        attempts: How often the request was sent or tried.
        request_id: The service's id of the exchange, if one was read.
        worth_repeating: False when it would fail alike, as for a bad certificate.
    """

    code: ClassVar[ItemErrorCode] = "transport"
    worth_repeating: bool = True

    def __init__(
        self, message: str, *, sent: bool, attempts: int = 1, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.attempts = attempts
        self.request_id = request_id


class ConnectError(TransportError):
    """The service could not be reached; no byte of the request was sent."""

    code: ClassVar[ItemErrorCode] = "connect"
    exhausted: bool = False  # this process had no descriptor for one more connection


class ProxyError(ConnectError):
    """The proxy could not be reached or made no connection to the service: nothing was sent to it.

    Attributes:
        proxy: Its URL, without user and password.
        status: Its answer to ``CONNECT``, such as 407 where it wants a user and a password that
            it knows; None where there was none.
    """

    def __init__(self, message: str, *, proxy: str, status: int | None = None) -> None:
        super().__init__(message, sent=False)
        self.proxy = proxy
        self.status = status


class AttemptTimeoutError(TransportError, TimeoutError):
    """One attempt got no answer in its time; the wait for a permit does not count."""

    code: ClassVar[ItemErrorCode] = "timeout"


class ProtocolError(TransportError):
    """The answer is not what the protocol says; the text quotes its beginning."""

    code: ClassVar[ItemErrorCode] = "protocol"


class AnswerTooLargeError(ProtocolError):
    """An answer is over the client's cap, or would cost far more memory than its bytes.

    The same request would get the same answer, so it is not sent again. What can be asked for
    in smaller parts is.
    """

    code: ClassVar[ItemErrorCode] = "answer_too_large"
    worth_repeating: bool = False


class RedirectError(ProtocolError):
    """A redirect to another origin, in a circle, or of a request that is no GET."""

    worth_repeating: bool = False


class JobError(ElluminateError):
    """A job of the service ended without success.

    Attributes:
        job_id: The service's id of the job.
        job_status: ``FAILURE``, ``REVOKED``, ``REJECTED`` or ``TIMEOUT``; ``NONE`` when the
            service made no job at all.
    """

    code: ClassVar[ItemErrorCode] = "job_failed"

    def __init__(self, message: str, *, job_id: str, job_status: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.job_status = job_status


class APIError(ElluminateError):
    """The service answered, completely and readably, with a status that is not 2xx.

    Attributes:
        status: The HTTP status.
        detail: The service's own words, at most `DETAIL_LIMIT` characters.
        method: The request's method.
        path: The request's path, without the query.
        request_id: The service's id of the exchange, if it sent one.
        retry_after: Seconds the service asked to wait, if it did.
        attempts: How often the request was sent.
        body: The answer as parsed JSON, where it was an object.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        method: str = "",
        path: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail[:DETAIL_LIMIT])
        self.status = status
        self.detail = detail[:DETAIL_LIMIT]
        self.method = method
        self.path = path
        self.request_id = request_id
        self.retry_after = retry_after
        self.attempts = attempts
        self.body = body

    @property
    def code(self) -> ItemErrorCode:
        """``http_<status>``, the code of the items that fail with this error."""
        return http_code(self.status)

    def __str__(self) -> str:
        where = f" ({self.method} {self.path})" if self.path else ""
        told = "" if self.retry_after is None else f", told to wait {self.retry_after:g} s"
        return one_line(f"[{self.status}] {self.detail}{where}{told}")


class AuthenticationError(APIError):
    """401: the key is missing, wrong or revoked."""


class PermissionDeniedError(APIError):
    """403: the key is valid and may not do this."""


class NotFoundError(APIError):
    """404: no such object in this project, or no object of the name asked for."""


class ConflictError(APIError):
    """409: an object of that name exists, or a request with that key is in flight."""


class PayloadTooLargeError(APIError):
    """413: the body is larger than the service accepts."""


class RejectedError(APIError):
    """400 or 422: the service does not accept the request's content."""


class TaskMatchError(RejectedError):
    """No result of an upload is of a task of the experiment: nothing was stored.

    Attributes:
        accepted_tasks: Some of its tasks, name by id.
        accepted_tasks_total: How many it has.
        reasons: Why each result is of none.
    """

    accepted_tasks: Mapping[int, str]
    accepted_tasks_total: int
    reasons: Sequence[str]

    @classmethod
    def of(
        cls,
        error: RejectedError,
        *,
        accepted_tasks: Mapping[int, str],
        accepted_tasks_total: int,
        reasons: Sequence[str],
    ) -> Self:
        """The refusal ``error``, with what it says as data."""
        made = cls.__new__(cls, *error.args)
        made.args = error.args
        made.__dict__.update(error.__dict__)
        made.accepted_tasks = accepted_tasks
        made.accepted_tasks_total = accepted_tasks_total
        made.reasons = reasons
        return made


class RateLimitError(APIError):
    """429: over the service's limit, for longer than the call may wait."""


class ServerError(APIError):
    """5xx, 408, 421, 424 or 425: the service failed, or something on the way to it.

    It may have processed the request all the same, but for 424: its model or judge failed.
    """


_BY_STATUS: dict[int, type[APIError]] = {
    400: RejectedError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    409: ConflictError,
    413: PayloadTooLargeError,
    421: ServerError,
    424: ServerError,
    422: RejectedError,
    425: ServerError,
    429: RateLimitError,
}


def api_error_class(status: int) -> type[APIError]:
    """The class for an HTTP status that is not 2xx."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIError)


# Of what was asked (500), or of how the service is made: they come again.
_LASTING = frozenset({500, 501, 505, 506, 508, 510})


def is_passing_status(status: int) -> bool:
    """Whether it is of the way or of the moment, and not of what was asked.

    That is a time-out (408), and every 5xx but a plain 500 and those that say what the service
    does not do: 501, 505, 506, 508, 510.
    """
    return status == 408 or (500 <= status < 600 and status not in _LASTING)
