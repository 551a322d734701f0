"""What `llm_configs.create` and `BatchOptions.replace` take by name is what there is."""

from __future__ import annotations

from dataclasses import fields

from elluminate_async import BatchOptions
from elluminate_async.batch.options import BatchOptionChanges
from elluminate_async.schemas.llm_configs import CreateLLMConfigRequest, LLMConfigFields


def test_every_field_of_a_configuration_can_be_given() -> None:
    """An editor completes them all, and no other."""
    named = {"name", "llm_model_name"}
    assert {*LLMConfigFields.__annotations__} | named == {*CreateLLMConfigRequest.model_fields}


def test_every_option_can_be_changed() -> None:
    """An editor completes them all, and no other."""
    assert [*BatchOptionChanges.__annotations__] == [field.name for field in fields(BatchOptions)]
