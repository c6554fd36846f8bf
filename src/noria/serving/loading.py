"""Loading releases: from a deployment's release numbers to models that are warm and proved.

A release is loaded once a process and shared by every table of routes that names it. Before it may
answer it has predicted its own golden rows, which warms it and proves that it is the same model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from noria.core.errors import ConfigError, Denied, ModelFailed, NotFound
from noria.packaging import bundle as bundles
from noria.packaging.isolated import ANSWER_S
from noria.registry import records as registry_records
from noria.serving.records import DeploymentRecord
from noria.serving.routes import Route, Served
from noria.store.workspace import Workspace

__all__ = ["GOLDEN_TOLERANCE", "Loader", "prove"]

log = logging.getLogger("noria.serving")
GOLDEN_TOLERANCE = 1e-9


def prove(model: Any) -> int:
    """Ask a model its golden rows; gives how many. Raises: ModelFailed if a score differs by more than 1e-9."""
    rows, expected = model.bundle.golden_rows, model.bundle.golden_scores
    if not rows:
        raise ModelFailed("the bundle has no golden rows, so nothing proves that it answers as it did")
    found = model.predict([dict(row) for row in rows]).tolist()
    worst = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    if not worst <= GOLDEN_TOLERANCE:
        raise ModelFailed(f"the model's scores of its golden rows differ by up to {worst:.3g} from those on record")
    return len(rows)


class Loader:
    """Loaded releases of one process. For one thread.

    Args:
        threads: the most threads that numeric libraries may use per predict.
        answer_s: how long a model in a process of its own may take for one batch.
    """

    def __init__(self, ws: Workspace, *, threads: int = 1, answer_s: float = ANSWER_S) -> None:
        self._ws = ws
        self._answer_s = answer_s
        self._threads = threads
        self._loaded: dict[str, Served] = {}

    def route(self, record: DeploymentRecord) -> Route:
        """Everything that a deployment needs, loaded. Raises: NoriaError if a release cannot be."""
        served = {arm.release: self.release(record.model, arm.release) for arm in record.arms}
        shadow = self.release(record.model, record.shadow) if record.shadow else None
        kept = tuple(self.release(record.model, number) for number in record.kept)
        return Route(record.model, record.seq, record.seed, record.arms, served, shadow, kept)

    def release(self, model: str, number: int) -> Served:
        """One release, from memory if it is there. Raises: NotFound, ModelFailed, Corrupt, Denied."""
        with self._ws.ledger.read() as tx:
            found = registry_records.release(tx, model, number)
        if found is None:
            raise NotFound(f"there is no release {number} of {model}")
        # A release's content may be the same as another's (made again); its number still differs.
        key = f"{model}/{number}/{found.content}"
        if key not in self._loaded:
            started = time.perf_counter()
            content = self._ws.objects.get_json(found.content)
            digest = content["bundle"]
            predictor = bundles.load(self._ws, digest, threads=self._threads, answer_s=self._answer_s)
            prove(predictor)
            is_apart = bundles.runs_code(predictor.bundle.flavor)
            self._loaded[key] = Served(number, found.content, digest, predictor, is_apart=is_apart)
            log.info("loaded %s r%d in %.2f s", model, number, time.perf_counter() - started)
        return self._loaded[key]

    def denied(self) -> dict[str, str]:
        """Models of which something loaded may not be loaded any more, with the reason; it is forgotten here.

        Only what runs code is looked at. Rules that cannot be read just now (a file that is being written) take
        nothing away: that is logged, and the next look decides.
        """
        found: dict[str, str] = {}
        for key, served in list(self._loaded.items()):
            if not served.is_apart:
                continue
            model = key.partition("/")[0]
            try:
                bundles.require_permitted(self._ws, served.bundle)
            except Denied as error:
                found[model] = error.line
                del self._loaded[key]
            except ConfigError as error:
                log.error("whether %s may still answer cannot be told: %s", model, error)
        return found

    def keep(self, routes: Iterable[Route]) -> None:
        """Forget every release that no route names."""
        wanted = {
            f"{route.model}/{served.release}/{served.content}"
            for route in routes
            for served in (*route.served.values(), *([route.shadow] if route.shadow else []), *route.kept)
        }
        self._loaded = {key: served for key, served in self._loaded.items() if key in wanted}
