"""The arguments of `generate_many` and `add_many`, checked and made into items."""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from pydantic import TypeAdapter

from elluminate_async.batch import Batch
from elluminate_async.engine.call import Upstream
from elluminate_async.engine.chunks import (
    Entry,
    Item,
    Passed,
    Repeatable,
    Source,
    closing,
)
from elluminate_async.engine.recovery import fingerprint_of
from elluminate_async.errors import InputError, ItemError
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.operations.answer_sizes import answer_bytes, size_of
from elluminate_async.operations.context import check_many, first_problems
from elluminate_async.operations.echoes import hash_of
from elluminate_async.operations.item_keys import Keying, checked_keying
from elluminate_async.operations.json_input import warn_of_lookalikes
from elluminate_async.operations.matching import ExpectedRow
from elluminate_async.operations.references import MAX_ID, id_of, optional_id
from elluminate_async.operations.run_keys import ItemKey, Run
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.generation_metadata import GenerationMetadata
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate, lookalikes_in
from elluminate_async.schemas.responses import ResponseIn
from elluminate_async.schemas.template_variables import TemplateVariables, prompt_values

Variables: TypeAlias = (
    Iterable[TemplateVariables | int]
    | AsyncIterable[TemplateVariables | int]
    | Batch[TemplateVariables]
)
"""Rows of a collection, or their ids."""

BODY_BYTES = 220
"""About what one item without messages takes in a request."""

_BODY = TypeAdapter(dict[str, Any])


# Not frozen, as one is made for each item and would take twice the time.
@dataclass(slots=True)
class ResponseSpec:
    """One response to generate or to store; never changed.

    Attributes:
        variables: The row, or its id.
        messages: Empty to have it generated.
        epoch: Which repetition of its variables it is; None until it is sent.
        key: Of an item of a run.
    """

    variables: TemplateVariables | int
    messages: Sequence[Mapping[str, Any]] = ()
    metadata: GenerationMetadata | None = None
    epoch: int | None = None
    key: ItemKey | None = None

    @property
    def variables_id(self) -> int:
        """The row's id."""
        return self.variables if isinstance(self.variables, int) else self.variables.id


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """The experiment, template and configuration that all items of a call share.

    Attributes:
        template_bytes: About the size of the template's messages, where they are known.
        epoch: That of all items; None numbers those of one row.
        lookalikes: What looks like placeholders and is none, by what would be their names.
        keying: How the items get their keys; None without a run.
    """

    experiment_id: int
    template_id: int | None
    llm_config_id: int | None
    placeholders: frozenset[str]
    template_bytes: int = 0
    lookalikes: Mapping[str, str] = field(default_factory=dict[str, str])
    epoch: int | None = None
    keying: Keying | None = None

    @classmethod
    def check(
        cls,
        experiment: Experiment | int,
        prompt_template: PromptTemplate | int | None,
        llm_config: LLMConfig | int | None,
        *,
        run: object = None,
        item_keys: object = None,
    ) -> ResponsePlan:
        """The plan of these arguments.

        Raises:
            InputError: They do not fit each other.
        """
        template = experiment.prompt_template if isinstance(experiment, Experiment) else None
        if prompt_template is not None:
            wanted = id_of(prompt_template, PromptTemplate, "prompt_template")
            if template is not None and template.id != wanted:
                raise InputError(
                    f"the experiment is on the prompt template {template.id}, and "
                    f"prompt_template= is {wanted}: the service generates from the experiment's"
                )
            if isinstance(prompt_template, PromptTemplate):
                template = prompt_template
        template_id = template.id if template is not None else None
        if isinstance(prompt_template, int):
            template_id = prompt_template
        return cls(
            experiment_id=id_of(experiment, Experiment, "experiment"),
            template_id=template_id,
            llm_config_id=optional_id(llm_config, LLMConfig, "llm_config"),
            placeholders=frozenset(template.placeholders if template is not None else ()),
            template_bytes=size_of(template.messages) if template is not None else 0,
            lookalikes=_lookalikes_of(template) if template is not None else {},
            keying=checked_keying(run, item_keys),
        )

    @property
    def run(self) -> Run | None:
        """The run that the call belongs to."""
        return None if self.keying is None else self.keying.run

    def with_epoch(self, epoch: int | None) -> ResponsePlan:
        """The same, all of whose items are of that epoch."""
        keying = self.keying and replace(self.keying, epoch=epoch or 1)
        return replace(self, epoch=epoch, keying=keying)

    def fitted(self, variables: object) -> ResponsePlan:
        """The same for ``variables``, whose keys are looked at where all of them are there.

        Raises:
            InputError: There is not one key for each, or one is of two that differ.
        """
        if self.keying is None or not isinstance(variables, Sequence):
            return self
        rows = cast("Sequence[object]", variables)
        return replace(self, keying=self.keying.fitted_to_rows(rows))

    def check_variables(self, variables: Iterable[object]) -> None:
        """Raise `InputError` when an entry is no row, or has no value for a placeholder."""
        entries = variables.outcomes if isinstance(variables, Batch) else variables
        problems = [
            problem
            for position, entry in enumerate(cast("Iterable[object]", entries))
            if not self._fits(entry) and (problem := self._problem(position, entry))
        ]
        if problems:
            raise InputError(first_problems(problems))
        if self.lookalikes:
            self._warn_of_lookalikes(cast("Iterable[object]", entries))

    def _warn_of_lookalikes(self, entries: Iterable[object]) -> None:
        """Tell of a column whose name is in the template in double braces, and is not filled in."""
        for entry in entries:
            if isinstance(entry, TemplateVariables):
                named = self.lookalikes
                if found := [named[name] for name in entry.input_values if name in named]:
                    warn_of_lookalikes(found)
                    return

    def _fits(self, entry: object) -> bool:
        """Whether nothing is wrong with ``entry``, for what most entries are."""
        if type(entry) is TemplateVariables:
            return self.placeholders <= entry.input_values.keys()
        return type(entry) is int and 0 <= entry <= MAX_ID

    def _problem(self, position: int, entry: object) -> str | None:
        if isinstance(entry, TemplateVariables):
            missing = self.placeholders.difference(prompt_values(entry))
            if not missing:
                return None
            names = ", ".join(f"{{{{{name}}}}}" for name in sorted(missing))
            has = ", ".join(sorted(entry.input_values)) or "nothing"
            meant = did_you_mean(min(missing), entry.input_values, "{{{{{}}}}}") or ";"
            return f"template_variables[{position}] has no value for {names}{meant} it has {has}"
        if isinstance(entry, ItemError):
            return None
        if isinstance(entry, Mapping):
            return (
                f"template_variables[{position}] is a plain mapping: add it to the collection "
                "first, with client.template_variables.add_many(...), and pass what that returns"
            )
        try:
            id_of(entry, TemplateVariables, f"template_variables[{position}]")
        except InputError as error:
            return str(error)
        return None

    def source(self, variables: Variables) -> Source[ResponseSpec]:
        """The entries to send, in order; failed positions of a `Batch` pass through."""
        source = self._unkeyed_source(variables)
        return source if self.keying is None else self.keying.keyed(source)

    def _unkeyed_source(self, variables: Variables) -> Source[ResponseSpec]:
        if isinstance(variables, AsyncIterable):
            return self._async_source(variables)
        if isinstance(variables, Sequence):
            # A copy: the caller may change the list while the batch runs.
            rows = variables.outcomes if isinstance(variables, Batch) else tuple(variables)
            # Of a sequence all variables are in memory, and so may be their counts.
            return Repeatable(lambda: self._entries(rows, Counter()))
        return self._entries(variables, None)

    def _entries(
        self, variables: Iterable[object], seen: Counter[int] | None
    ) -> Iterator[Entry[ResponseSpec]]:
        for position, entry in enumerate(variables):
            yield self._entry(position, entry, seen)

    async def _async_source(
        self, variables: AsyncIterable[object]
    ) -> AsyncIterator[Entry[ResponseSpec]]:
        position = 0
        async with closing(variables):
            async for entry in variables:
                yield self._entry(position, entry, None)
                position += 1

    def _entry(
        self, position: int, entry: object, seen: Counter[int] | None
    ) -> Entry[ResponseSpec]:
        if not self._fits(entry):
            if isinstance(entry, ItemError):
                return Passed(position, entry)
            if problem := self._problem(position, entry):
                raise InputError(problem)
        variables = cast("TemplateVariables | int", entry)
        epoch: int | None = None
        if seen is not None:
            id = variables if isinstance(variables, int) else variables.id
            epoch = seen[id] = seen.get(id, 0) + 1
        spec = ResponseSpec(variables, (), None, epoch)
        return Item(position, spec, BODY_BYTES, (), self.answer_bytes(variables))

    def answer_bytes(self, variables: TemplateVariables | int) -> int:
        """About what a row that was made for ``variables`` takes in an answer.

        Template and values come back in it, both as they are and filled in.
        """
        values = variables.input_values if type(variables) is TemplateVariables else {}
        return answer_bytes(self.template_bytes, values)

    def upstream(self, variables: Variables) -> Upstream[ResponseSpec] | None:
        """The upstream of a call whose ``variables`` are a `Batch` with failures."""
        if isinstance(variables, Batch) and variables.failed:
            return Upstream(variables, self._repaired)
        return None

    def _repaired(
        self, rows: Mapping[int, Any], outcomes: Sequence[object]
    ) -> Iterator[Item[ResponseSpec]]:
        # Their epochs come after those of equal rows, which were asked for before.
        others = (row for position, row in enumerate(outcomes) if position not in rows)
        seen = Counter(row.id for row in others if isinstance(row, TemplateVariables))
        for position, row in rows.items():
            entry = self._entry(position, row, seen)
            assert isinstance(entry, Item)
            if self.keying is not None:
                entry.value.key = self.keying.key_at(position, entry.value)
            yield entry

    @property
    def arguments(self) -> dict[str, int | str | None]:
        """The arguments by which a journal knows the call."""
        run: dict[str, int | str | None] = {} if self.run is None else {"run": self.run.name}
        return {"experiment": self.experiment_id, "llm_config": self.llm_config_id, **run}

    @staticmethod
    def fingerprint(spec: ResponseSpec) -> str:
        """Equal for the same row with the same content, and the same messages."""
        variables = spec.variables
        content = None if isinstance(variables, int) else hash_of(variables.input_values)
        metadata = spec.metadata and spec.metadata.model_dump_json()
        messages = [dict(message) for message in spec.messages]
        key = () if spec.key is None else (spec.key.text,)
        return fingerprint_of(spec.variables_id, content, messages, metadata, *key)

    def body(self, spec: ResponseSpec, *, epoch: int) -> ResponseIn:
        """The wire's document for one item."""
        return ResponseIn(
            prompt_template_id=self.template_id,
            template_variables_id=spec.variables_id,
            experiment_id=self.experiment_id,
            epoch=epoch,
            llm_config_id=self.llm_config_id,
            messages=[dict(message) for message in spec.messages],
            metadata=spec.metadata,
        )

    def item_keys(self, specs: Iterable[ResponseSpec]) -> list[str]:
        """The keys of these items as the service is told them; none without a run."""
        if (run := self.run) is None:
            return []
        return [run.item_key(spec.key) for spec in specs if spec.key is not None]

    def batch_body(
        self,
        specs: Iterable[tuple[ResponseSpec, int]],
        item_keys: Sequence[str] = (),
        *,
        retry_failed: bool = False,
    ) -> bytes:
        """The request for these items and their epochs: `body` of each, with its key if any.

        Written from plain data, as a model for each item takes several times as long.
        """
        template, experiment, config = self.template_id, self.experiment_id, self.llm_config_id
        entries: list[dict[str, Any]] = [
            {
                "prompt_template_id": template,
                "template_variables_id": spec.variables_id,
                "experiment_id": experiment,
                "epoch": epoch,
                "llm_config_id": config,
                "messages": [dict(message) for message in spec.messages],
                "metadata": spec.metadata,
            }
            for spec, epoch in specs
        ]
        for entry, key in zip(entries, item_keys, strict=False):
            entry["item_key"] = key
        document: dict[str, Any] = {"prompt_response_ins": entries}
        if retry_failed:
            document["retry_failed"] = True
        return _BODY.dump_json(document)


def specs_of(
    wanted: Iterable[ExpectedRow], items: Sequence[Item[ResponseSpec]]
) -> list[ResponseSpec]:
    """The responses that are asked for at these positions."""
    specs = {item.position: item.value for item in items}
    return [specs[entry.position] for entry in wanted]


def one_source(variables: object, collection: Collection | int | None) -> bool:
    """Whether the variables were given; False when a collection was.

    Raises:
        InputError: Both were, or none.
    """
    if (variables is None) == (collection is None):
        raise InputError("pass either template_variables= or collection=")
    if isinstance(variables, TemplateVariables | Mapping | int):
        raise InputError("template_variables= must be a list of rows: pass [x] for one")
    if variables is None:
        return False
    check_many(variables, "template_variables")
    return True


def _lookalikes_of(template: PromptTemplate) -> dict[str, str]:
    return {text[2:-2].strip(): text for text in lookalikes_in(template.messages)}
