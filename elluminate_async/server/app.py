"""The ASGI application: the routes behind the guard."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import StatementError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from elluminate_async.server.older_clients import OlderClients
from elluminate_async.server.problems import Problem
from elluminate_async.server.routes import (
    agent_results,
    collections,
    criteria,
    criterion_sets,
    experiments,
    llm_configs,
    projects,
    prompt_templates,
    ratings,
    responses,
    scenario_sets,
    scenarios,
    template_variables,
    version,
)
from elluminate_async.server.routes.refusals import IN_PROJECT, OF_ALL
from elluminate_async.server.security import Guard

if TYPE_CHECKING:
    from elluminate_async.server.service import Service

_LOG = logging.getLogger(__name__)
_PREFIX = "/api/v0"
_PROJECT = f"{_PREFIX}/projects/{{project_id}}"
_SHOWN_ERRORS = 10


def create_app(service: Service, *, host_names: frozenset[str] | None = None) -> Guard:
    """The application of one server.

    Args:
        service: An open one.
        host_names: Names that ``Host`` may give; None allows any.
    """
    return Guard(OlderClients(_routes()), service, host_names)


@cache
def _routes() -> FastAPI:
    # One for all servers of the process: it holds nothing of theirs, and takes long to make.
    app = FastAPI(
        title="Elluminate, embedded server",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url=f"{_PREFIX}/openapi.json",
        responses=OF_ALL,
    )
    # Routes are tried one after another, so those of batches come first; and each router
    # within a router doubles the tries.
    for noun in (
        responses,
        ratings,
        prompt_templates,
        template_variables,
        collections,
        criteria,
        criterion_sets,
        llm_configs,
        agent_results,
        experiments,
        scenario_sets,
        scenarios,
    ):
        app.include_router(noun.router, prefix=_PROJECT, responses=IN_PROJECT)
    app.include_router(version.router, prefix=_PREFIX)
    app.include_router(projects.router, prefix=_PREFIX)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnicodeEncodeError, _not_text)
    app.add_exception_handler(StatementError, _statement)
    app.add_exception_handler(OverflowError, _too_large)
    app.add_exception_handler(ClientDisconnect, _nobody)
    app.add_exception_handler(Exception, _fault)
    return app


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return JSONResponse(error.body, error.status, error.headers)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Without the input: it may be large, and it may hold a key.
    errors = error.errors()[:_SHOWN_ERRORS]
    shown = [{key: one[key] for key in ("loc", "msg", "type")} for one in errors]
    return JSONResponse({"detail": shown}, 422)


async def _statement(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StatementError)
    if isinstance(error.orig, ValueError):  # from the values, like NaN, not the database
        return JSONResponse({"detail": f"a value cannot be stored: {error.orig}"}, 422)
    return await _fault(request, error)


async def _not_text(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the body holds characters that no text can have"}, 422)


async def _too_large(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "a number is larger than 64 bits"}, 422)


async def _nobody(request: Request, _error: Exception) -> JSONResponse:
    # It left while it was sending: as it has heard nothing, nothing was done.
    _LOG.debug("%s %s was not sent whole", request.method, request.url.path)
    return JSONResponse({"detail": "the body is not whole"}, 400)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": "the server failed; see its log"}, 500)
