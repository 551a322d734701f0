"""Which of the projects that a credential sees a client works in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from elluminate_async.batch.options import shown
from elluminate_async.errors import AmbiguousProjectError, NotFoundError
from elluminate_async.schemas.base import Page
from elluminate_async.schemas.projects import Project

NEWEST: Final = "newest"
"""Asks for the project with the highest id."""

_TOLD: Final = 10
"""Projects that an error names."""


async def visible_projects(read_page: Callable[[int], Awaitable[Page[Project]]]) -> list[Project]:
    """All that the credential sees, in the service's order; pages from 1 on, one by one."""
    projects: dict[int, Project] = {}
    number = 0
    while True:
        number += 1
        page = await read_page(number)
        known = len(projects)
        projects.update((project.id, project) for project in page.items)
        # A service that knows no pages answers with the same one again.
        if len(projects) >= page.count or len(projects) == known:
            return list(projects.values())


def chosen_project(
    projects: Sequence[Project],
    wanted: int | str | None,
    *,
    by_token: bool,
    blotted: Callable[[str], str],
) -> Project:
    """The one that is ``wanted``; of None the first of a key's, and the only one of a token's.

    A key belongs to the project that the service lists first. A token belongs to a person, who
    sees whatever the organization has: which of several is meant, the program has to say.

    Args:
        projects: All that the credential sees.
        wanted: An id, a name, `NEWEST`, or None.
        by_token: Whether the credential is an OAuth token.
        blotted: Takes the credential out of the service's texts.

    Raises:
        AmbiguousProjectError: None is wanted, and the token sees several; or several have the
            name.
        NotFoundError: It sees none, or not this one.
    """
    if wanted == NEWEST and projects:
        return max(projects, key=lambda project: project.id)
    fitting = [project for project in projects if wanted in (None, project.id, project.name)]
    if len(fitting) > 1 and (by_token or wanted is not None):
        raise _ambiguous(fitting, wanted, blotted)
    if fitting:
        return fitting[0]
    asked = "any project" if wanted in (None, NEWEST) else f"the project {shown(wanted)}"
    seen = _listed(projects, blotted) or "none at all"
    # Their names may be anything, and what is raised takes this frame along.
    del projects, fitting
    raise NotFoundError(
        f"this {'token' if by_token else 'key'} does not see {asked}; it sees {seen}",
        status=404,
        method="GET",
        path="/api/v0/projects",
    )


def _ambiguous(
    projects: Sequence[Project], wanted: int | str | None, blotted: Callable[[str], str]
) -> AmbiguousProjectError:
    seen = _listed(projects, blotted)
    what = "this token sees" if wanted is None else f"there are by the name {shown(wanted)}"
    return AmbiguousProjectError(
        f"{what} {len(projects)} projects: {seen}; choose one by AsyncClient(project=<its id>), "
        f'or the one made last by project="{NEWEST}"',
        projects={project.id: blotted(project.name) for project in projects},
    )


def _listed(projects: Sequence[Project], blotted: Callable[[str], str]) -> str:
    told = ", ".join(f"{project.id} {project.name!r}" for project in projects[:_TOLD])
    more = f" and {len(projects) - _TOLD} more" if len(projects) > _TOLD else ""
    return blotted(told + more)
