"""The version check: every client may come in, and learns what there is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from elluminate_async.schemas import CompatibilityRequest
from elluminate_async.schemas.version import CompatibilityAnswer
from elluminate_async.server.acceptance import BoundedRoute
from elluminate_async.server.routes.deps import InService, json_response

router = APIRouter(prefix="/version", tags=["version"], route_class=BoundedRoute)


@router.post("/compatible", response_model=CompatibilityAnswer)
async def compatible(service: InService, _body: CompatibilityRequest) -> Response:
    """Say yes, and name the capabilities and the server's id, if any."""
    answer: dict[str, Any] = {"is_compatible": True, "required_sdk_version": "0.6.0"}
    if offered := service.profile.capabilities:
        answer["capabilities"] = sorted(offered)
    if service.profile.identity:
        answer["server_id"] = service.database.server_id
    return json_response(answer)
