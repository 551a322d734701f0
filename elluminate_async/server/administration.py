"""A server's keys and projects, by its database file: beside a running server too."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.exc import DatabaseError

from elluminate_async.errors import ConfigurationError
from elluminate_async.schemas import CreateProjectRequest
from elluminate_async.server.keyring import hash_of, new_key
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import keys, projects, tables
from elluminate_async.server.store.wire_json import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Concatenate, ParamSpec, TypeVar

    from sqlalchemy import Connection, Engine

    from elluminate_async.schemas import Project
    from elluminate_async.server.store.keys import StoredKey

    P = ParamSpec("P")
    T = TypeVar("T")

_BUSY_TIMEOUT_MS = 30_000
_SHORTEST_ID = 6


class Administration:
    """Who may use a server, changed in its database file.

    It takes no part in the lock that keeps a second server off the file: each change is one
    transaction of SQLite's, and a running server goes by it after a second.

    Args:
        path: A database that a server has made.

    Raises:
        ConfigurationError: On entering: there is no such database, or it is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)

    def __enter__(self) -> Self:
        """See that it is a server's database."""
        if not self.path.is_file():
            raise ConfigurationError(
                f"there is no database {self.path}; a server makes it: elluminate-async serve "
                f"--db {self.path}"
            )
        version = self._run(_version)
        if version != str(tables.SCHEMA_VERSION):
            raise ConfigurationError(
                f"{self.path} is no database of this version's; the server brings an earlier one "
                f"up to date when it starts: elluminate-async serve --db {self.path}"
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._engine.dispose()

    def add_key(self, project: str | None = None) -> tuple[str, str]:
        """Make a key for the project of that name or id, or for all: its id, and itself.

        It is told here only: its hash is stored.

        Raises:
            ConfigurationError: There is no such project.
        """
        key = new_key()
        project_id = None if project is None else self._project(project)
        return self._run(keys.add, hash_of(key), project_id), key

    def list_keys(self) -> Sequence[StoredKey]:
        """All keys, oldest first."""
        return self._run(keys.list_all)

    def revoke_key(self, key_id: str) -> None:
        """Let a key open nothing any more.

        Raises:
            ConfigurationError: No key has an id that begins so, or several have.
        """
        found = [*self._run(keys.matching, key_id)] if len(key_id) >= _SHORTEST_ID else list[str]()
        if len(key_id) < _SHORTEST_ID:
            raise ConfigurationError(f"give at least {_SHORTEST_ID} characters of a key's id")
        if len(found) != 1:
            what = "several keys have" if found else "no key has"
            raise ConfigurationError(
                f"{what} the id {key_id}; elluminate-async keys list --db {self.path} shows them"
            )
        self._run(keys.remove, found[0])

    def add_project(self, name: str, description: str = "") -> Project:
        """A new project.

        Raises:
            ConfigurationError: The name is taken, empty, or would be taken for an id.
        """
        _check_name(name)
        body = CreateProjectRequest(name=name, description=description, organization_id=1)
        model = self._run(projects.model_name) or ""
        return self._run(projects.create, body, model)

    def list_projects(self) -> Sequence[Project]:
        """All projects, oldest first."""
        return self._run(_all_projects)

    def rename_project(self, project: str, name: str) -> None:
        """Give the project of that name or id another name.

        Raises:
            ConfigurationError: There is no such project, or the name is taken, empty, or
                would be taken for an id.
        """
        _check_name(name)
        self._run(projects.rename, self._project(project), name)

    def _project(self, wanted: str) -> int:
        project_id = self._run(projects.find, wanted)
        if project_id is None:
            raise ConfigurationError(
                f"there is no project {wanted!r}; elluminate-async projects list --db {self.path} "
                "shows them"
            )
        return project_id

    def _run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection, *args, **kwargs)
        except Problem as problem:
            raise ConfigurationError(problem.detail) from None
        except DatabaseError as error:
            raise ConfigurationError(f"{self.path} cannot be used: {error.orig}") from None


def _check_name(name: str) -> None:
    if not name.strip():
        raise ConfigurationError("a project's name must not be empty")
    if name.isdecimal():
        raise ConfigurationError(f"a project named {name!r} would be taken for an id: add a letter")


def _engine(path: Path) -> Engine:
    uri = f"file:{quote(str(path))}?mode=rw"  # a database that is not there is not made
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True),
        poolclass=NullPool,
        hide_parameters=True,
        json_serializer=dump,
    )

    def connected(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "synchronous=FULL", "foreign_keys=ON"):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _version(connection: Connection) -> str | None:
    tables_there = "SELECT count(*) FROM sqlite_master WHERE name = 'meta'"
    if not connection.exec_driver_sql(tables_there).scalar():
        return None
    return connection.exec_driver_sql("SELECT value FROM meta WHERE name='schema_version'").scalar()


def _all_projects(connection: Connection) -> Sequence[Project]:
    return projects.list_all(connection, keys.project_ids(connection))
