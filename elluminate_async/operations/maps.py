"""`MapListing`: the samples of an experiment, read page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.operations.listing import Listing, ReadPage
from elluminate_async.operations.reading import read_body
from elluminate_async.schemas.experiments import ExperimentMap, ExperimentMapSample

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy

SAMPLES_PER_PAGE = 100


class MapListing(Listing[ExperimentMapSample]):
    """The listing of one experiment's samples, whose pages are maps."""

    def __init__(
        self,
        connection: Connection,
        experiment_id: int,
        *,
        per_page: int = SAMPLES_PER_PAGE,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(
            connection,
            ExperimentMapSample,
            "experiments",
            experiment_id,
            "map",
            query={"limit": per_page},
            policy=policy,
        )
        self._experiment_id = experiment_id

    def _read(self, body: bytes) -> ReadPage[ExperimentMapSample]:
        page = read_body(ExperimentMap, body)
        if page.experiment_id != self._experiment_id:
            raise ValueError(f"a map of the experiment {page.experiment_id}")
        ids = {sample.id for sample in page.samples}
        return ReadPage(page.samples, page.num_samples, len(page.samples), ids, 0, "")
