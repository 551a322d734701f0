"""Generation parameters: how an experiment has its model sample, over the configuration's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, ValidationError, model_validator

from elluminate_async.schemas.base import KeysOf
from elluminate_async.schemas.llm_configs import CheckedSampling


class GenerationParams(CheckedSampling):
    """Sampling of an experiment; keys that are not known here are kept.

    ``temperature`` (0 to 2) and ``reasoning_effort`` exclude each other; ``top_p`` is from 0 to 1.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    @model_validator(mode="after")
    def _one_of_two(self) -> GenerationParams:
        if self.temperature is not None and self.reasoning_effort is not None:
            raise ValueError("temperature and reasoning_effort exclude each other")
        return self


ParamsObject: TypeAlias = Annotated[dict[str, Any], KeysOf(GenerationParams)]
"""Generation parameters as they are given."""


def problem_of_params(params: Mapping[str, Any]) -> str | None:
    """The first thing that is wrong with generation parameters; None where nothing is."""
    try:
        GenerationParams.model_validate({k: v for k, v in params.items() if v is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(map(str, ("generation_params", *first["loc"])))
        return f"{name}: {first['msg']}"
    return None
