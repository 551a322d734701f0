"""Runs that are kept: `.elluminate/runs/<name>`, with what they are, their journal, their records.

``run.json`` holds the spec and where it ran, without keys; ``journal`` is that of
`AsyncClient.evaluate`; ``records.jsonl`` has the results once there are any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from elluminate_async import Evaluation, InputError, LLMConfig
from elluminate_async.cli.service import HOME, Where, make_home
from elluminate_async.cli.spec import Spec
from elluminate_async.tables.files import written

RUNS: Final = HOME / "runs"
_LONGEST = 60


class RunFile(BaseModel):
    """The content of ``run.json``.

    Attributes:
        title: The name that was asked for; that of the folder may have a number behind it.
        llm_configs: By the name that records have, without keys.
    """

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    title: str
    spec: Spec
    where: Where
    llm_configs: dict[str, LLMConfig] = {}


class SavedRun:
    """One run on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.folder.name

    @property
    def journal(self) -> Path:
        """The directory of its journals."""
        return self.folder / "journal"

    @property
    def records(self) -> Path:
        """The file of its results."""
        return self.folder / "records.jsonl"

    @property
    def file(self) -> Path:
        """The file that tells what it is."""
        return self.folder / "run.json"

    def read(self) -> RunFile:
        """Its file: the spec, and where it runs.

        Raises:
            InputError: Its file is missing or damaged.
        """
        try:
            return RunFile.model_validate_json(self.file.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {self.file}: {error.strerror or error}") from None
        except ValidationError:
            raise InputError(f"{self.file} is not of a run of this version") from None

    def write(self, content: RunFile) -> None:
        """Keep what it is, whole or not at all."""
        with written(self.file) as file:
            file.write(content.model_dump_json(indent=1).encode())

    def keep(self, evaluation: Evaluation, file: RunFile) -> None:
        """Keep its results, what it is now, and the prices that the results cost."""
        evaluation.write_records(self.records)
        configs = {record.config: record.llm_config for record in evaluation if record.llm_config}
        self.write(file.model_copy(update={"llm_configs": configs}))

    def evaluation(self) -> Evaluation:
        """Its results.

        Raises:
            InputError: There are none, or they are damaged.
        """
        try:
            lines = self.records.read_text("utf-8").split("\n")
        except FileNotFoundError:
            raise InputError(
                f"the run {self.name} has no results yet: elluminate-async run {self.name} --resume"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {self.records}: {error}") from None
        try:
            documents = [json.loads(line) for line in lines if line]
        except ValueError:
            raise InputError(f"{self.records} is damaged: run it again with --resume") from None
        configs = self.read().llm_configs
        return Evaluation.from_records(documents, name=self.name, llm_configs=configs)


def new_run(content: RunFile) -> SavedRun:
    """A new folder for a run, under its title or that with a number."""
    make_home()
    for name in _names(content.title):
        folder = RUNS / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"cannot make {folder}: {error.strerror or error}") from None
        run = SavedRun(folder)
        run.write(content)
        return run
    raise AssertionError("names have an end")


def last_run(title: str) -> SavedRun | None:
    """The newest run of that title; None where there is none."""
    last = None
    for name in _names(title):
        run = SavedRun(RUNS / name)
        if not run.folder.is_dir():
            return last
        # `rows-2` is the second of `rows`, or the first of its own.
        if run.file.is_file() and run.read().title == title:
            last = run
    return last


def find_run(name: str) -> SavedRun | None:
    """The run of that name, or in that folder; None where there is none."""
    for folder in (RUNS / name, Path(name)):
        run = SavedRun(folder)
        if run.file.is_file():
            return run
    return None


def known_run(name: str) -> SavedRun:
    """The run of that name, or in that folder.

    Raises:
        InputError: There is none; the text lists those that there are.
    """
    if (run := find_run(name)) is not None:
        return run
    there = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
    if Path(name).is_file():
        raise InputError(
            f"{name} is no run: of files those are read that --out or export wrote as .jsonl"
        )
    listed = ", ".join(there[:20]) or "none yet"
    raise InputError(f"there is no run {name!r} in {RUNS}; there are: {listed}")


def _names(title: str) -> Iterator[str]:
    plain = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:_LONGEST] or "run"
    yield plain
    number = 2
    while True:
        yield f"{plain}-{number}"
        number += 1
