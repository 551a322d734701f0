"""``client.llm_configs``."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack, cast

from elluminate_async.errors import InputError, NotFoundError
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.operations.connection import decode
from elluminate_async.operations.json_input import check_lookup, check_name, checked_input
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, cascading, got_or_created
from elluminate_async.schemas.llm_configs import CreateLLMConfigRequest, LLMConfig, LLMConfigFields

_MOST_NAMED = 20


class LLMConfigsResource(Resource):
    """Which models answer, and how they are called."""

    def list(self, *, strict: bool = False) -> Listing[LLMConfig]:
        """All configurations.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        return Listing(self._connection, LLMConfig, "llm_configs", strict=strict)

    async def get(self, name: str | None = None, *, id: int | None = None) -> LLMConfig:
        """The configuration of that id or name.

        Raises:
            NotFoundError: There is none; of a name the text lists those that there are.
            InputError: Neither is given, or both, or the name is no text.
        """
        check_lookup(name, id, "an LLM configuration")
        if id is not None:
            return decode(
                LLMConfig,
                await self._connection.call("GET", "llm_configs", id_of(id, LLMConfig, "id")),
            )
        query = {"name": name}
        listing = Listing(self._connection, LLMConfig, "llm_configs", query=query)
        try:
            return await listing.named("LLM configuration", name)
        except NotFoundError as error:
            problem = error.detail
        names = [config.name async for config in self.list() if config.name]
        meant = did_you_mean(name or "", names) or ";"
        there = ", ".join(names[:_MOST_NAMED]) or "none"
        raise NotFoundError(f"{problem}{meant} there are: {there}", status=404)

    async def create(
        self, name: str, llm_model_name: str, **fields: Unpack[LLMConfigFields]
    ) -> LLMConfig:
        """Create a configuration.

        Args:
            name: Unique in the project.
            llm_model_name: The model as its provider names it.
            **fields: The fields of `LLMConfigFields`, such as ``llm_base_url``,
                ``api_key``, ``temperature``, ``max_tokens``, ``timeout`` (seconds).

        Raises:
            ConflictError: The name is taken.
            InputError: There is no such field, its value has the wrong type or is out of
                bounds, or its word is none that there is.
        """
        return await self._created(name, llm_model_name, fields)

    async def _created(
        self, name: str, llm_model_name: str, fields: LLMConfigFields, *, harmless: bool = False
    ) -> LLMConfig:
        known = CreateLLMConfigRequest.model_fields
        if unknown := sorted(set(fields) - set(known)):
            meant = did_you_mean(unknown[0], known) or ";"
            raise InputError(
                f"no field {unknown[0]!r}{meant} the fields are {', '.join(sorted(known))}"
            )
        check_name(name, "an LLM configuration")
        with checked_input("a field of the LLM configuration"):
            given = cast("dict[str, Any]", fields)
            body = CreateLLMConfigRequest(name=name, llm_model_name=llm_model_name, **given)
        post = Post(("llm_configs",), body, harmless=harmless)
        read = partial(decode, LLMConfig)
        return await make(self._connection, "create an LLM configuration", post, read)

    async def get_or_create(
        self, name: str, llm_model_name: str, **fields: Unpack[LLMConfigFields]
    ) -> tuple[LLMConfig, bool]:
        """The configuration of that name as it is, or a new one; and whether it is new."""
        creation = self._created(name, llm_model_name, fields, harmless=True)
        return await got_or_created(creation, lambda _: self.get(name))

    async def delete(self, llm_config: LLMConfig | int, *, cascade: bool = False) -> None:
        """Delete a configuration.

        Args:
            llm_config: Which one.
            cascade: Delete it also where experiments name it, or responses were made with it. They
                stay, with what they tell of it; in the embedded server such an experiment
                generates no more, by this configuration or another.

        Raises:
            ConflictError: There are such, or work in flight refers to it; the embedded server
                tells how much, and in which experiments.
        """
        id = id_of(llm_config, LLMConfig, "llm_config")
        await self._delete("llm_configs", id, query=cascading(cascade))
