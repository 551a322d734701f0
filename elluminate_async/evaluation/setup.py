"""`Setup`: the template, the criteria, the collection and the experiments of an evaluation."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from elluminate_async.engine.threads import run_to_end
from elluminate_async.errors import InputError, JournalError, NotFoundError
from elluminate_async.evaluation.directory import note, read_noted
from elluminate_async.operations.references import id_of
from elluminate_async.resources.collections import CollectionsResource
from elluminate_async.resources.criteria import CriteriaResource
from elluminate_async.resources.criterion_sets import CriterionSetsResource
from elluminate_async.resources.experiments import ExperimentsResource
from elluminate_async.resources.llm_configs import LLMConfigsResource
from elluminate_async.resources.prompt_templates import PromptTemplatesResource
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.evaluation.request import EvaluationRequest
    from elluminate_async.operations.context import CallContext
    from elluminate_async.schemas.collections import Collection
    from elluminate_async.schemas.criteria import Criterion, CriterionIn
    from elluminate_async.schemas.criterion_sets import CriterionSet
    from elluminate_async.schemas.experiments import Experiment

T = TypeVar("T")
U = TypeVar("U")

Begin: TypeAlias = "Callable[[PromptTemplate, Collection], None]"
"""Told of the template and the collection once there are both."""

_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration that answers, and the experiment that has its responses.

    Attributes:
        name: As records name it.
        llm_config: None where it is the project's default, or the answers exist.
    """

    name: str
    llm_config: LLMConfig | None
    experiment: Experiment

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """Those of the experiment, where it has a set of its own."""
        own = self.experiment.criterion_set
        return () if own is None else tuple(own.criteria or ())


@dataclass(frozen=True, slots=True)
class Setup:
    """The objects of one evaluation at the service."""

    name: str
    template: PromptTemplate
    collection: Collection
    configurations: tuple[Configuration, ...]


class SetupMaker:
    """Makes the objects of an evaluation, or finds those that its journal names.

    Args:
        context: Of the evaluation, whose options these requests go by.
        request: What is to be evaluated.
        check_rows: Raises where rows do not fit placeholders. Called before anything is made, where
            the template is at the service; else the caller has done so.
        is_keyed: Whether the service knows the items of its run, so that all calls of that share
            one setup.
    """

    def __init__(
        self,
        context: CallContext,
        request: EvaluationRequest,
        check_rows: Callable[[Iterable[str]], None],
        *,
        is_keyed: bool = False,
    ) -> None:
        connection = context.connection
        self._check_rows = check_rows
        self._request = request
        self._run = request.keys.run if is_keyed and request.keys is not None else None
        self._options = context.options
        self._templates = PromptTemplatesResource(connection)
        self._criteria = CriteriaResource(connection)
        self._sets = CriterionSetsResource(connection)
        self._collections = CollectionsResource(connection)
        self._experiments = ExperimentsResource(connection)
        self._configs = LLMConfigsResource(connection)
        self._template: PromptTemplate | None = None

    async def make(self, begin: Begin) -> Setup:
        """The setup; with a journal the same one each time.

        Args:
            begin: Called once: without a journal before there are experiments.

        Raises:
            JournalError: The journal is of another evaluation, or what it names is gone.
        """
        directory = self._request.journal
        if directory is None:
            return await self._make_new(begin)
        known = await run_to_end(partial(read_noted, directory))
        if known is not None:
            setup = await self._find(directory, known)
        else:
            setup = await self._make_new()
            await run_to_end(partial(note, directory, self._noted(setup)))
        begin(setup.template, setup.collection)
        return setup

    async def template(self) -> PromptTemplate:
        """The template of the request, created where it is a text and new."""
        prompt = self._request.prompt
        if isinstance(prompt, PromptTemplate):
            return prompt
        if isinstance(prompt, int):
            if self._template is None:
                self._template = await self._templates.get(id=prompt)
            return self._template
        name = self._request.name or _first_words(prompt)
        return (await self._templates.get_or_create(prompt, name))[0]

    async def _make_new(self, begin: Begin | None = None) -> Setup:
        """Make all; at once where nothing needs the other, as each wait is a round trip."""
        request = self._request
        # Alone: where one of them is not there, nothing is made.
        configs = await _all(map(self._config, request.llm_configs))
        if isinstance(request.prompt, int):
            self._check_rows((await self.template()).placeholders)
        label = await self._label()
        base = self._name(label)
        (template, criterion_set), collection = await _both(
            self._template_and_set(label), self._collection(base)
        )
        if begin is not None:
            begin(template, collection)

        async def made(config: LLMConfig | None) -> Configuration:
            create = partial(
                self._experiments.get_or_create,
                prompt_template=template,
                collection=collection,
                llm_config=config,
                criterion_set=criterion_set,
            )
            is_one = len(configs) == 1 and self._run is None
            name = base if config is None or is_one else f"{base} · {config.name}"
            return self._configuration(config, await self._made(name, create))

        return Setup(base, template, collection, tuple(await _all(map(made, configs))))

    async def _label(self) -> str:
        """The name of the template, which others are named after, before there is one."""
        prompt, name = self._request.prompt, self._request.name
        if isinstance(prompt, int):
            return name or (await self.template()).name
        if isinstance(prompt, PromptTemplate):
            return prompt.name
        return name or _first_words(prompt)

    async def _template_and_set(
        self, label: str
    ) -> tuple[PromptTemplate, CriterionSet | int | None]:
        """The template, and the set to rate by; None for that of the template."""
        criteria = self._request.criteria
        if criteria is not None:
            return await _both(self.template(), self._new_set(label, criteria))
        template = await self.template()
        if self._request.criterion_set is None:
            await self._criteria.get_or_generate_many(template, options=self._options)
        return template, self._request.criterion_set

    async def _collection(self, base: str) -> Collection:
        given = self._request.collection
        if given is None:
            return await self._made(base, self._collections.get_or_create)
        return await self._collections.get(id=given) if isinstance(given, int) else given

    async def _made(
        self, name: str, get_or_create: Callable[[str], Awaitable[tuple[T, bool]]]
    ) -> T:
        """A new object, or in a run the one of that name.

        Raises:
            InputError: That is another one than this call's.
        """
        if self._run is None:
            return await _unique(name, get_or_create)
        try:
            return (await get_or_create(name))[0]
        except InputError as error:
            raise InputError(
                f"the run {self._run!r} was begun with another evaluation of that name, whose "
                f"answers would not be of this one ({error}): pass another run="
            ) from None

    async def _collection_of(self, experiments: Sequence[Experiment], id: int) -> Collection:
        """The collection of that id, as an experiment has it: by itself it comes with all rows."""
        there = [one.collection for one in experiments if one.collection is not None]
        found = next((one for one in there if one.id == id), None)
        return found or await self._collections.get(id=id)

    def _configuration(self, config: LLMConfig | None, experiment: Experiment) -> Configuration:
        """With the project's default where none was named, as the experiment tells it."""
        if self._request.answers is not None:
            return Configuration("given", None, experiment)
        chosen = config or experiment.llm_config
        if chosen is None:
            return Configuration("default", None, experiment)
        return Configuration(chosen.name or f"configuration {chosen.id}", chosen, experiment)

    def _name(self, label: str) -> str:
        name = self._request.name or f"Evaluation of {label}"
        return name if self._run is None else f"{name} · {_shortened(self._run)}"

    async def _config(self, config: str | LLMConfig | int | None) -> LLMConfig | None:
        if config is None:
            return None
        if isinstance(config, LLMConfig):
            id_of(config, LLMConfig, "llm_configs")
            return config
        if isinstance(config, int):
            return await self._configs.get(id=config)
        return await self._configs.get(config)

    async def _new_set(self, label: str, criteria: Sequence[CriterionIn]) -> CriterionSet:
        """A set of these criteria, the same one each time."""
        wanted = [(one.criterion_str, one.label) for one in criteria]
        mark = hashlib.blake2b(json.dumps(wanted).encode(), digest_size=4).hexdigest()
        name = f"{self._request.name or label} · {mark}"
        found, is_new = await self._sets.get_or_create(name, criteria)
        there = [(one.criterion_str, one.label) for one in found.criteria or ()]
        if is_new or sorted(there, key=str) == sorted(wanted, key=str):
            return found
        # Somebody edited it.
        return await _unique(name, partial(self._sets.get_or_create, criteria=criteria))

    def _noted(self, setup: Setup) -> dict[str, Any]:
        return {
            "call": self._request.fingerprint(),
            "template": setup.template.id,
            "collection": setup.collection.id,
            "experiments": [one.experiment.id for one in setup.configurations],
            "criteria": _criteria_hash([one.experiment for one in setup.configurations]),
        }

    async def _find(self, directory: Path, known: dict[str, Any]) -> Setup:
        now = self._request.fingerprint()
        was = known["call"]
        if changed := [name for name in {**now, **was} if now.get(name) != was.get(name)]:
            raise JournalError(
                f"the journal {directory} was begun with another {changed[0]}=: pass what it was "
                "begun with, or another path",
                path=directory,
            )
        request = self._request
        try:
            template, experiments = await _both(
                self._templates.get(id=known["template"]),
                _all(self._experiments.get(id=id) for id in known["experiments"]),
            )
            collection = await self._collection_of(experiments, known["collection"])
        except NotFoundError as error:
            raise JournalError(
                f"the journal {directory} names what the service does not have: {error.detail}. "
                "It is of another service, or was deleted there: pass another path",
                path=directory,
            ) from error
        if known["criteria"] != _criteria_hash(experiments):
            raise JournalError(
                f"the journal {directory} was begun with other criteria: the set was changed "
                "since. Change it back, or pass another path",
                path=directory,
            )
        if isinstance(request.prompt, int):
            self._check_rows(template.placeholders)
        configs = await _all(map(self._config, request.llm_configs))
        return Setup(
            self._name(template.name),
            template,
            collection,
            tuple(
                self._configuration(config, experiment)
                for config, experiment in zip(configs, experiments, strict=True)
            ),
        )


def _shortened(run: str) -> str:
    """The name of a run as a part of other names."""
    if len(run) <= _LONGEST_NAME:
        return run
    mark = hashlib.blake2b(run.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{run[: _LONGEST_NAME - 10]}… {mark}"


def _first_words(prompt: str | Sequence[object]) -> str:
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, default=str)
    words = " ".join(text.split())
    if not words:
        raise InputError("prompt= is empty: a text with {{placeholders}}, or a PromptTemplate")
    return words if len(words) <= _LONGEST_NAME else words[: _LONGEST_NAME - 1] + "…"


async def _all(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """All at once; where one fails the others still come to their end, and the error is bare."""
    found: list[T] = []
    for one in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(one, BaseException):
            raise one
        found.append(one)
    return found


async def _both(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    """The same of two that differ."""
    first, second = await _all(cast("tuple[Awaitable[Any], ...]", (one, other)))
    return first, second


async def _unique(name: str, get_or_create: Callable[[str], Awaitable[tuple[T, bool]]]) -> T:
    """A new object under ``name``, or where that is taken under it with the time.

    Where the answer to a creation was lost, the object of it counts as somebody's, and stays.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    for candidate in (name, f"{name} {now}"):
        # An experiment of that name may also be of another template or collection.
        with suppress(InputError):
            found, is_new = await get_or_create(candidate)
            if is_new:
                return found
    return (await get_or_create(f"{name} {now} {secrets.token_hex(3)}"))[0]


def _criteria_hash(experiments: Sequence[Experiment]) -> str:
    """Of what the judge is asked."""
    sets = [one.criterion_set for one in experiments]
    asked = [
        sorted((c.id, c.criterion_str, c.label or "") for c in one.criteria or ())
        for one in sets
        if one is not None
    ]
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=8).hexdigest()
