"""What the handlers of one server process share: the inbox, and what they know of the runs being logged to."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from noria.catalog import filing
from noria.catalog import records as catalog
from noria.catalog.records import ExperimentRecord, LoggedModel
from noria.core.errors import NoriaError
from noria.core.frozen import slotted
from noria.experiments import journal, records
from noria.experiments.incoming import Inbox
from noria.experiments.records import ACTIVE, LoggedRun
from noria.faces.protocols.mlflow.names import experiment_number
from noria.faces.protocols.mlflow.refusals import Refused, invalid, missing
from noria.faces.protocols.mlflow.shapes import location
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = [
    "Wire",
    "active_run",
    "details_of",
    "experiment_location",
    "experiment_of",
    "found_experiment",
    "found_logged_model",
    "found_run",
    "logged_model_uri",
    "require_logged_model",
]

log = logging.getLogger("noria.mlflow")
KNOWN_S = 1.0
"""How long a run is taken to be as it was last seen. What this process does to it is seen at once."""
KNOWN_MAX = 1000
LINE_POINTS = 200
NAMING = 64


@slotted
class _Known:
    run: LoggedRun
    seen: float
    params: dict[str, str] | None = None
    is_renewing: bool = False


class Wire:
    """One server process's side of the protocol. Thread safe.

    Args:
        known_s: how long a run is taken to be as it was last seen.
    """

    def __init__(self, ws: Workspace, *, known_s: float = KNOWN_S) -> None:
        self._known_s = known_s
        self.inbox = Inbox(ws)
        self._ws = ws
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._naming = tuple(threading.Lock() for _ in range(NAMING))
        self._aging = queue.SimpleQueue[_Known]()
        filing.ensure_default(ws)
        threading.Thread(target=self._renew, name="noria-known", daemon=True).start()

    def naming(self, name: str) -> threading.Lock:
        """What is held while something of that name is written; a few names share one."""
        return self._naming[hash(name) % NAMING]

    def active(self, run: str) -> LoggedRun:
        """A run that may be logged to. Raises: Refused if there is none, or it is deleted."""
        found = self._of(run).run
        _require_active(found)
        return found

    def begun(self, run: LoggedRun) -> None:
        """This process has just begun a run: it has no params yet."""
        with self._lock:
            self._keep(run.run, _Known(run, time.monotonic(), {}))

    def is_swift(self, run: str, *, has_params: bool) -> bool:
        """Whether logging to a run is one write to an open file: nothing has to be asked of the ledger before.

        What is half as old as it may be is read again meanwhile, so that who logs all the time never waits for that.
        """
        known = self._known.get(run)
        if known is None or (has_params and known.params is None):
            return False
        age_s = time.monotonic() - known.seen
        if age_s >= self._known_s:
            return False
        if age_s >= self._known_s / 2 and not known.is_renewing:
            known.is_renewing = True
            self._aging.put(known)
        return self.inbox.is_open(run)

    def forget(self, run: str = "") -> None:
        """Look at a run (or all) again before believing anything of it."""
        with self._lock:
            if run:
                self._known.pop(run, None)
            else:
                self._known.clear()

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Mapping[str, Any]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write what a request logs to the run's log: all of it or nothing, and on disk before this returns."""
        lines = [_line(metrics[start : start + LINE_POINTS]) for start in range(0, len(metrics), LINE_POINTS)]
        lines += [journal.encode(kind, dict(pairs)) for kind, pairs in (("p", params), ("t", tags)) if pairs]
        if lines:
            try:
                self.inbox.append(run, lines)
            except NoriaError:
                self.forget(run)  # its new params were taken as its own already
                raise

    def new_params(self, run: str, given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """(the params that a run does not have yet, the values that it has of those given otherwise).

        Those that are new are taken as the run's from then on.
        """
        known = self._of(run)
        with self._lock:
            params = known.params
        if params is None:
            self.inbox.send(run)
            with self._ws.ledger.read() as tx:
                params = records.params(tx, [run])[run]
        with self._lock:
            known.params = params = params if known.params is None else known.params
            others = {key: params[key] for key, value in given.items() if key in params and params[key] != value}
            new = {key: value for key, value in given.items() if key not in params}
            if not others:
                params.update(new)
        return new, others

    def _of(self, run: str) -> _Known:
        now = time.monotonic()
        with self._lock:
            known = self._known.get(run)
            if known is not None and now - known.seen < self._known_s:
                return known
        with self._ws.ledger.read() as tx:
            found = found_run(tx, run)
        with self._lock:
            known = self._known.pop(run, None)
            if known is None:
                known = _Known(found, now)
            _see(known, found, now)
            self._keep(run, known)
        return known

    def _renew(self) -> None:
        """Look again at runs that are being logged to, before what is known of them is too old."""
        while True:
            known = self._aging.get()
            run, now = known.run.run, time.monotonic()
            try:
                with self._ws.ledger.read() as tx:
                    found = found_run(tx, run)
                with self._lock:
                    if self._known.get(run) is known:  # it was not changed here meanwhile, and so forgotten
                        _see(known, found, now)
            except (Refused, NoriaError):
                self.forget(run)  # the next request finds out what is wrong, and is told
            except Exception:
                log.exception("run %s could not be looked at", run)
                self.forget(run)

    def _keep(self, run: str, known: _Known) -> None:
        self._known[run] = known
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


def _see(known: _Known, found: LoggedRun, now: float) -> None:
    known.run, known.seen, known.is_renewing = found, now, False
    if not known.params:
        known.params = None  # another process may have logged the first ones


def found_run(tx: Reader, run: str) -> LoggedRun:
    """The run of that id. Raises: Refused."""
    found = records.run(tx, run)
    if found is None:
        raise missing(f"Run with id={run} not found")
    return found


def active_run(tx: Reader, run: str) -> LoggedRun:
    """The run of that id, if it is not deleted. Raises: Refused."""
    found = found_run(tx, run)
    _require_active(found)
    return found


def found_experiment(tx: Reader, text: str) -> ExperimentRecord:
    """The experiment of that id, deleted or not. Raises: Refused."""
    number = experiment_number(text or "0")
    found = catalog.experiment(tx, number)
    if found is None:
        raise missing(f"No Experiment with id={number} exists")
    return found


def experiment_of(tx: Reader, run: LoggedRun) -> ExperimentRecord:
    """The experiment of a run; what no experiment was named for is in Default."""
    found = catalog.by_name(tx, run.experiment) if run.experiment else None
    found = found or catalog.experiment(tx, 0)
    assert found is not None, "Default was made when the wire was opened"
    return found


def found_logged_model(tx: Reader, model: str, *, also_deleted: bool = False) -> LoggedModel:
    """The logged model of that id. Raises: Refused."""
    return require_logged_model(catalog.logged_model(tx, model), model, also_deleted=also_deleted)


def require_logged_model(found: LoggedModel | None, model: str, *, also_deleted: bool = False) -> LoggedModel:
    """A logged model that was looked for. Raises: Refused."""
    if found is None or (found.stage != ACTIVE and not also_deleted):
        raise missing(f"Logged model with ID '{model}' not found.")
    return found


def experiment_location(tx: Reader, number: int) -> str:
    """Where the artifacts of an experiment are for its clients, also of one that is not there any more."""
    found = catalog.experiment(tx, number)
    return location(found) if found is not None else f"mlflow-artifacts:/{number}"


def logged_model_uri(tx: Reader, found: LoggedModel, roots: dict[int, str] | None = None) -> str:
    """Where the files of a logged model are for its clients; `roots` keeps what is known of experiments."""
    known = {} if roots is None else roots
    if found.experiment not in known:
        known[found.experiment] = experiment_location(tx, found.experiment)
    return f"{known[found.experiment]}/models/{found.model}/artifacts"


def details_of(ws: Workspace, digests: Sequence[str]) -> dict[str, dict[str, str]]:
    """What clients said of data sets, by the digest of the object that holds it."""
    return {digest: json.loads(content) for digest, content in ws.objects.get_many(sorted(set(digests)))}


def _require_active(found: LoggedRun) -> None:
    if found.stage != ACTIVE:
        raise invalid(f"The run {found.run} must be in the 'active' state. Current state is {found.stage}.")


def _line(metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """The line of the journal that holds these points."""
    points = [
        (
            each.get("key", ""),
            each.get("step", 0),
            each.get("timestamp", 0) * 1000,
            journal.number(each.get("value", 0.0)),
        )
        for each in metrics
    ]
    at_us = points[0][2]
    if all(each[2] == at_us for each in points):
        return journal.encode("m", at_us, [(name, step, value) for name, step, _, value in points])
    return journal.encode_columns(points)
