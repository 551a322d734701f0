"""Who asks for model calls: jobs and single requests, between which these are shared fairly."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from elluminate_async.limits.fairness import Group

if TYPE_CHECKING:
    from elluminate_async.limits.fairness import FairGate, Share


class _Project:
    """The callers of one project, for as long as there are any.

    Attributes:
        in_flight: Their model calls.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._groups: dict[FairGate, Group] = {}

    def group(self, gate: FairGate) -> Group:
        """All of them at ``gate``, where they count as one beside other projects."""
        if gate not in self._groups:
            self._groups[gate] = Group()
        return self._groups[gate]


class Caller:
    """A job, or a single request, that asks for model calls.

    Attributes:
        in_flight: Its model calls.
    """

    def __init__(self, project: _Project) -> None:
        self.in_flight = 0
        self._project = project
        self._shares: dict[FairGate, Share] = {}

    def share(self, gate: FairGate) -> Share:
        """Its part of ``gate``."""
        share = self._shares.get(gate)
        if share is None:
            share = self._shares[gate] = gate.share(group=self._project.group(gate))
        return share

    @property
    def order(self) -> tuple[int, int]:
        """Of several that wait the one with the least of this goes first."""
        return self._project.in_flight, self.in_flight

    def count(self, change: int) -> None:
        """Learn that so many calls more are in flight."""
        self.in_flight += change
        self._project.in_flight += change


class Callers:
    """All who ask for model calls now."""

    def __init__(self) -> None:
        self._projects = WeakValueDictionary[int, _Project]()

    def of(self, project_id: int) -> Caller:
        """Another caller of a project."""
        project = self._projects.get(project_id)
        if project is None:
            project = self._projects[project_id] = _Project()
        return Caller(project)
