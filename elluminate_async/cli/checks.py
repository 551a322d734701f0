"""The checks of ``doctor``, each on its own: one that fails ends no other that can be made."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import platform
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Final, Literal
from urllib.parse import urlsplit

from elluminate_async import AsyncClient, BatchOptions, ElluminateError, __version__
from elluminate_async.cli.documents import Document
from elluminate_async.cli.evaluating import OUTAGES
from elluminate_async.cli.exits import EXIT_MISUSE, EXIT_NOT_MEASURED
from elluminate_async.cli.models import OFFLINE, model_named
from elluminate_async.cli.service import Where, opened
from elluminate_async.cli.shares import FAR, share_of, share_of_environment, told

_EXTRAS: Final = {
    "server": ("fastapi", "sqlalchemy", "uvicorn", "openai", "cryptography"),
    "tables": ("narwhals", "pyarrow"),
    "stats": ("numpy",),
    "report": ("jinja2",),
    "YAML": ("yaml",),
    "Excel": ("openpyxl",),
}
_SKEW: Final = 60.0  # seconds: then a `Retry-After` that is a date, or a token, is misread
_SET_CLOCK: Final = "see that this machine's is right, as by NTP"
_FEW_FILES: Final = 256
_MODEL_SECONDS: Final = 60.0
_PUT_ONE: Final = "put a model behind it by --llm-base-url and --llm-model"
_CHECK_MODEL: Final = "check --llm-base-url, --llm-model and the key in LLM_API_KEY"


class CheckDocument(Document):
    """One check.

    Attributes:
        exit_code: 0, or what the command ends with for this one.
    """

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    exit_code: int = 0


class DoctorDocument(Document):
    """The document of ``doctor --json``."""

    version: Literal[1] = 1
    exit_code: int
    checks: list[CheckDocument]


class Checks:
    """Collects what was found."""

    def __init__(self) -> None:
        self.found: list[CheckDocument] = []

    def ok(self, name: str, detail: str) -> None:
        """All is well."""
        self.found.append(CheckDocument(name=name, status="ok", detail=detail))

    def warn(self, name: str, detail: str) -> None:
        """It works, and may not be what is meant."""
        self.found.append(CheckDocument(name=name, status="warning", detail=detail))

    def fail(self, name: str, error: object) -> None:
        """It does not work: 3 where it may later, else 2."""
        code = EXIT_NOT_MEASURED if isinstance(error, (*OUTAGES, OSError)) else EXIT_MISUSE
        detail = " ".join(str(error).split())
        self.found.append(CheckDocument(name=name, status="failed", detail=detail, exit_code=code))


async def checks_of(where: Where, share: str | None = None) -> list[CheckDocument]:
    """All checks, in the order in which they build on each other.

    Args:
        where: The service.
        share: That of ``--share``; None for that of the environment, if there is one.
    """
    checks = Checks()
    _installed(checks)
    _limits(checks)
    await _share(checks, share)
    if where.is_embedded:
        await _model(checks, where)
        # The model was asked by itself: the server is looked at without it.
        where = Where(project=where.project, db=where.db)
    async with _connected(checks, where) as client:
        if client is not None:
            await _service(checks, client, where)
    return checks.found


def _installed(checks: Checks) -> None:
    checks.ok("version", f"elluminate-async {__version__}, Python {platform.python_version()}")
    missing = [
        name for name, needed in _EXTRAS.items() if not all(find_spec(one) for one in needed)
    ]
    if missing:
        command = "pip install 'elluminate-async[all]'"
        checks.warn("extras", f"not installed: {', '.join(missing)}; all of them: {command}")
    else:
        checks.ok("extras", f"installed: {', '.join(_EXTRAS)}")


def _limits(checks: Checks) -> None:
    options = BatchOptions()
    detail = (
        f"{options.max_concurrency} chunks in flight of {options.chunk_size} items at most, a "
        f"deadline of {options.deadline:.0f} s, where nothing says otherwise"
    )
    # Windows has no such limit.
    with contextlib.suppress(ImportError):
        import resource

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        detail += f"; {files} open files"
        if 0 <= files < _FEW_FILES:
            checks.warn("limits", f"{detail}, which are few: ulimit -n 1024")
            return
    checks.ok("limits", detail)


async def _share(checks: Checks, text: str | None) -> None:
    try:
        share = share_of_environment() if text is None else share_of(text)
        if share is None:
            return
        try:
            await share.state()
            # The first one makes a connection.
            state = await share.state()
        finally:
            await share.aclose()
    except (ElluminateError, OSError) as error:
        checks.fail("share", error)
        return
    detail = told(share.name, state)
    if state.round_trip > FAR:
        checks.warn(
            "share",
            f"{detail}; it is far, so that less is used of limits whose period is below "
            f"{state.round_trip / FAR:.0f} s",
        )
    else:
        checks.ok("share", detail)


@asynccontextmanager
async def _connected(checks: Checks, where: Where) -> AsyncGenerator[AsyncClient | None]:
    async with contextlib.AsyncExitStack() as stack:
        client = None
        try:
            service = await stack.enter_async_context(opened(where, BatchOptions(retry_for=5)))
        except (ElluminateError, OSError) as error:
            checks.fail("server", error)
        else:
            client = service.client
            checks.ok("server", service.told)
        yield client


async def _service(checks: Checks, client: AsyncClient, where: Where) -> None:
    try:
        project = await client.projects.current()
        checks.ok("key", f"taken; project {project.id}, {project.name!r}")
        seconds = await client.ping(timeout=5)
        checks.ok("ping", f"{1_000 * seconds:.0f} ms")
        answer = await client.compatibility()
        if answer is None:
            checks.warn(
                "protocol",
                "the service has no version check, and is taken for one without idempotency keys: "
                "where that is wrong, see whether the address is the service's own",
            )
        elif answer.is_compatible:
            able = ", ".join(sorted(answer.capabilities)) or "nothing beyond the protocol"
            checks.ok("protocol", f"spoken by the service, which has: {able}")
        else:
            checks.fail(
                "protocol",
                f"the service wants version {answer.required_sdk_version} of the protocol or a "
                "later one: pip install -U elluminate-async",
            )
        configs = [config.name or str(config.id) async for config in client.llm_configs.list()]
        if configs:
            checks.ok("models", ", ".join(configs[:10]))
        else:
            checks.warn(
                "models", "none is configured at the service: client.llm_configs.create makes one"
            )
    except ElluminateError as error:
        checks.fail("service", error)
    if not where.is_embedded:
        await check_clock(checks, client.base_url)
    else:
        checks.ok("clock", "the server's is this machine's")


async def check_clock(checks: Checks, base_url: str) -> None:
    """Compare this machine's clock with the service's."""
    try:
        skew = await asyncio.to_thread(_skew, base_url)
    except (OSError, http.client.HTTPException) as error:
        # What is needed of the service the other checks have asked.
        checks.warn("clock", f"the service's cannot be read ({error}): {_SET_CLOCK}")
        return
    if skew is None:
        checks.warn("clock", f"the service does not tell the time: {_SET_CLOCK}")
    elif abs(skew) > _SKEW:
        checks.warn(
            "clock",
            f"{skew:+.0f} s to the service's, so that waits and keys with an end are misread: "
            f"{_SET_CLOCK}",
        )
    else:
        checks.ok("clock", f"within {max(1.0, abs(skew)):.0f} s of the service's")


def _skew(base_url: str) -> float | None:
    """Seconds that this machine's clock is ahead of the service's; None if it tells no time."""
    parts = urlsplit(base_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=5)
    try:
        # Without the key, and whatever it answers: every answer has a date.
        connection.request("HEAD", parts.path or "/")
        date = connection.getresponse().headers.get("Date")
    finally:
        connection.close()
    if date is None:
        return None
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


async def _model(checks: Checks, where: Where) -> None:
    if where.llm_model == OFFLINE and where.llm_base_url is None:
        checks.warn("model", f"the offline stand-in, whose verdicts mean nothing: {_PUT_ONE}")
        return
    try:
        from elluminate_async.server import ModelError, ModelRequest

        model = model_named(where.llm_model, where.llm_base_url)
    except ElluminateError as error:
        checks.fail("model", error)
        return
    request = ModelRequest([{"role": "user", "content": "Answer with OK."}], max_tokens=16)
    started = time.monotonic()
    try:
        async with asyncio.timeout(_MODEL_SECONDS):
            await model.complete(request)
    except TimeoutError:
        checks.fail(
            "model", OSError(f"no answer within {_MODEL_SECONDS:.0f} s: see whether it is loaded")
        )
    except ModelError as error:
        checks.fail("model", OSError(f"{where.llm_model}: {error}; {_CHECK_MODEL}"))
    else:
        seconds = time.monotonic() - started
        checks.ok("model", f"{where.llm_model} answered in {seconds:.1f} s")
    finally:
        await model.aclose()
