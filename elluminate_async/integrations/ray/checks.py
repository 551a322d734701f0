"""Checks of arguments at the driver, before anything is sent or begun."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import ray
from ray.data import Dataset

from elluminate_async import BatchOptions
from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import shown
from elluminate_async.integrations.blocks import BlockWork
from elluminate_async.schemas.version import Capability
from elluminate_async.tables.libraries import pyarrow

if TYPE_CHECKING:
    from elluminate_async import AsyncClient

Variables: TypeAlias = Sequence[str] | Mapping[str, str]
"""The columns whose values go into the prompt, or placeholder to column."""

_LONGEST_TEXT = 1_000

logger = logging.getLogger(__name__)


def check_dataset(ds: object) -> None:
    """Raise `InputError` for what is no dataset of Ray's."""
    if not isinstance(ds, Dataset):
        raise InputError(f"ds must be a ray.data.Dataset, not {shown(ds)}")


def check_text(value: object, name: str) -> None:
    """Raise `InputError` for what is no text of 1 to 1,000 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        raise InputError(
            f"{name} must be a text of 1 to {_LONGEST_TEXT} characters, not {shown(value)}"
        )


def check_count(value: object, name: str) -> None:
    """Raise `InputError` for what is no whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {shown(value)}")


def check_cpus(value: object) -> None:
    """Raise `InputError` for what an actor cannot take of a machine."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise InputError(f"num_cpus must be a number of 0 or more, not {shown(value)}")


def check_options(options: object) -> None:
    """Raise `InputError` for options that do not reach a worker."""
    if options is None:
        return
    if not isinstance(options, BatchOptions):
        raise InputError(f"options must be BatchOptions, not {shown(options)}")
    if options.on_progress is not None:
        raise InputError(
            "on_progress would be called in the workers, where nobody sees it: leave it out, Ray "
            "shows the progress, and its metrics have elluminate_items_done, _failed and _in_flight"
        )
    try:
        cast("Any", ray).cloudpickle.dumps(options)  # as Ray itself will
    except Exception as error:  # whatever the pickling of a caller's object raises
        raise InputError(f"options cannot be sent to a worker: {error}") from error


def variables_of(variables: object) -> dict[str, str] | None:
    """Placeholder to column; None where the template is to say.

    Raises:
        InputError: They are no names, or one comes twice.
    """
    if variables is None:
        return None
    if isinstance(variables, Mapping):
        pairs = [*cast("Mapping[object, object]", variables).items()]
    elif isinstance(variables, Sequence) and not isinstance(variables, str | bytes):
        pairs = [(name, name) for name in cast("Sequence[object]", variables)]
    else:
        raise InputError(
            "variables must be a list of columns, or a mapping of placeholder to column, not "
            f"{shown(variables)}"
        )
    found: dict[str, str] = {}
    for placeholder, column in pairs:
        for name in (placeholder, column):
            if not isinstance(name, str) or not name:
                raise InputError(f"variables must be names, and {shown(name)} is none")
        if placeholder in found:
            raise InputError(f"variables has the placeholder {placeholder!r} twice")
        found[cast("str", placeholder)] = cast("str", column)
    return found


def filled(variables: dict[str, str] | None, placeholders: Sequence[str]) -> dict[str, str]:
    """``variables``, or the placeholders from columns of their names.

    Raises:
        InputError: A placeholder gets no value.
    """
    if variables is None:
        return {name: name for name in placeholders}
    if lacking := [name for name in placeholders if name not in variables]:
        raise InputError(
            f"the template has a placeholder {lacking[0]!r} that variables gives no column for"
        )
    return variables


def check_schema(ds: Dataset, work: BlockWork) -> None:
    """Raise `InputError` where the columns cannot be those that are needed.

    Of a dataset whose columns are known only when it is worked on the workers tell, before they
    send anything: nothing is executed for the sake of a check.
    """
    schema = ds.schema(fetch_if_missing=False)
    if schema is None:
        return
    kinds = cast("list[Any]", schema.types)
    types = dict(zip(schema.names, kinds, strict=True))
    work.check_columns([*types])
    if work.generation is None:
        name, fits, wanted = "response_id", _is_whole, "whole numbers"
    else:
        name, fits, wanted = work.generation.key, _is_key, "whole numbers or texts"
    # Of frames of pandas some types are not Arrow's: the workers look at each value.
    if isinstance(types[name], _arrow().DataType) and not fits(types[name]):
        raise InputError(f"the column {name!r} must have {wanted}, and has {types[name]}")


def _arrow() -> Any:
    return pyarrow("Ray Data")


def _is_whole(kind: Any) -> bool:
    """Whether it is a type of integers, or of nothing at all."""
    types = _arrow().types
    return types.is_integer(kind) or types.is_null(kind)


def _is_key(kind: Any) -> bool:
    types = _arrow().types
    if types.is_dictionary(kind):
        return _is_key(kind.value_type)
    return (
        _is_whole(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
    )


def warn_of_few_cpus(ds: Dataset, taken: float) -> None:
    """Log where the workers leave no CPU for what Ray itself has to run: that would stand still."""
    if not ray.is_initialized():
        return
    there = float(cast("Any", ray).cluster_resources().get("CPU", 0))
    needed = 1 if ds.context.checkpoint_config is None else 2
    if there - taken < needed:
        logger.warning(
            "the cluster has %g CPUs, of which the workers take %g: what reads and writes%s needs "
            "%d, and without these nothing begins",
            there, taken, "" if needed == 1 else ", and the checkpoint", needed,
        )  # fmt: skip


async def warn_of_no_keys(client: AsyncClient) -> None:
    """Log where the service does not know items again."""
    found = await client.compatibility()
    if found is None or Capability.ITEM_KEYS not in found.capabilities:
        logger.warning(
            "the service knows no item keys: what a worker had asked for when it was killed is "
            "asked for, and paid, again; keep rows_per_task small"
        )
