"""A run that a script records: its calls write one line to a local log, and never raise.

What a call cannot do, a value that is no number or a disk that is full, is logged as a warning and noted
with the run; training goes on. A thread syncs the log, opens the project's store, sends batches and keeps
the lease. The store may be out of reach all the while: the log holds everything, and the next `noria`
command sends it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from noria.config import Project
from noria.core.clock import Clock, utc_text
from noria.core.errors import NoriaError, UsageError
from noria.core.identity import sortable_id
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.experiments import journal
from noria.store.linelog import LineWriter
from noria.store.owner import owner_id

if TYPE_CHECKING:
    from noria.experiments import media, sending
    from noria.packaging import bundle
    from noria.store import tree as trees
    from noria.store.objects import Objects
    from noria.store.workspace import Workspace
    from noria.tracking import code as codes
    from noria.tracking import environment as environments
    from noria.tracking import host as hosts
    from noria.tracking import system
else:  # a script goes on once its run has begun on disk: what the thread needs is loaded beside it
    media, sending = lazy("noria.experiments.media"), lazy("noria.experiments.sending")
    bundle, trees = lazy("noria.packaging.bundle"), lazy("noria.store.tree")
    codes, environments = lazy("noria.tracking.code"), lazy("noria.tracking.environment")
    hosts, system = lazy("noria.tracking.host"), lazy("noria.tracking.system")

__all__ = ["Recording"]

log = logging.getLogger("noria.recording")
SYNC_S = 1.0
FIRST_SEND_S = 0.5
SEND_S = 5.0
"""How often the log is synced; when a batch is first sent, and how far apart later ones come to be."""
CONTEXT_TRIES = 5
BACKLOG_MAX = 100_000
"""Lines kept in memory while the disk takes none."""
VALUE_MAX = 8000
NAME_MAX = 250
WORDS = {"p": "param", "t": "tag"}
LINE_NAMES = 200
LINE_TEXTS = 20
FINISH_WAIT_S = 30.0
LAST_S = 2.0
"""How long the end of a run waits for the thread, and how long the thread tries once more."""


class Recording:
    """One run that this process records. A context manager; an exception ends the run as failed.

    Every method may be called from any thread, and in forked processes. None raises: what could not be
    kept is a warning of the logger `noria.recording` and a problem of the run.
    """

    def __init__(
        self,
        project: Project,
        *,
        clock: Clock,
        objects: Callable[[Path], Objects],
        open_workspace: Callable[[], Workspace],
        name: str,
        experiment: str,
        parent: str,
        actor: str,
        entry: str = "",
        is_sampled: bool = False,
        wait_s: float = FINISH_WAIT_S,
    ) -> None:
        self._project = project
        self._clock = clock
        self._open_workspace = open_workspace
        now = clock.now()
        self.run = sortable_id("run", int(now.timestamp() * 1000), int.from_bytes(os.urandom(10), "big"))
        self.name = _name(name) or self.run[-8:]
        self.experiment = _name(experiment)
        self._folder = project.state.resolve() / journal.FOLDER / self.run
        self._began = utc_text(now)
        self._began_at = time.monotonic()
        self._pid = os.getpid()
        self._entry = entry
        self._owner = owner_id()
        self._wait_s = wait_s
        self._lock = threading.RLock()
        self._steps: dict[str, int] = {}
        self._backlog: deque[bytes] = deque()
        self._lost = 0
        self._is_refused = False
        self._context_tries = 0
        self._is_ended = False
        self._writer: LineWriter | None = None
        self._writer_pid = 0
        self._is_over = threading.Event()
        self._ws: Workspace | None = None
        said = {
            "run": self.run,
            "name": self.name,
            "experiment": experiment,
            "parent": parent,
            "began": self._began,
            "owner": self._owner,
            "actor": actor,
        }
        with self._guarded("the run could not be begun on disk"):
            journal.keep(self._folder, "begin", said)
        self._objects = objects(journal.staged_in(self._folder))
        os.register_at_fork(after_in_child=_unlocking(weakref.ref(self)))
        self._thread = threading.Thread(target=self._work, name=f"recording-{self.run}", daemon=True)
        self._thread.start()
        if is_sampled:
            threading.Thread(target=self._sample, name=f"sampling-{self.run}", daemon=True).start()

    @property
    def is_ended(self) -> bool:
        """Whether the run was ended; what it logged may still be on its way."""
        return self._is_ended

    def log(
        self,
        metrics: Mapping[str, Any] | None = None,
        /,
        *,
        step: int | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        note: str = "",
        **named: Any,
    ) -> None:
        """Log metrics by name, params, tags or a note.

        Args:
            metrics: values by name; `named` are more. NaN and infinite values are kept as they are.
            step: where the points lie, within 64 bits; without one each metric counts its own, from 0.
            params, tags: texts by name; a later value takes the place of an earlier one.
            note: a sentence for whoever reads the run.
        Example:
            run.log(loss=0.31, accuracy=0.9, step=7)
        """
        with self._guarded("something could not be logged"):
            values = {**(metrics or {}), **named}
            if values:
                self._log_metrics(values, step)
        for kind, pairs in (("p", params), ("t", tags)):
            with self._guarded(f"the {WORDS[kind]}s could not be logged"):
                if pairs:
                    self._log_texts(kind, pairs)
        with self._guarded("the note could not be logged"):
            if note:
                self._append([journal.encode("n", self._fitting("a note", str(note)))])

    def artifact(self, content: str | Path | bytes, name: str = "", *, type: str = "file") -> None:
        """Keep a file, all files of a folder, or bytes with the run, as they are now."""
        with self._guarded(f"the artifact {name or content!r:.80} could not be kept"):
            if isinstance(content, bytes):
                self._keep(name or "artifact", content, type)
                return
            path = Path(content)
            if path.is_dir():
                base = name or path.resolve().name
                for each in sorted(found for found in path.rglob("*") if found.is_file()):
                    self._keep(f"{base}/{each.relative_to(path).as_posix()}", each, type)
            else:
                self._keep(name or path.name, path, type)

    def figure(self, figure: Any, name: str) -> None:
        """Keep a figure of Matplotlib (as PNG) or Plotly (as HTML)."""
        with self._guarded(f"the figure {name!r:.80} could not be kept"):
            content, suffix = media.figure(figure)
            self._keep(_with_suffix(name, suffix), content, "figure")

    def table(self, rows: Any, name: str) -> None:
        """Keep a table as Parquet: a data frame, a mapping of columns, or a list of rows."""
        with self._guarded(f"the table {name!r:.80} could not be kept"):
            self._keep(_with_suffix(name, ".parquet"), media.table(rows), "table")

    def image(self, image: Any, name: str) -> None:
        """Keep an image: a file, an image of Pillow, or an array of uint8 as PNG."""
        with self._guarded(f"the image {name!r:.80} could not be kept"):
            content, suffix = media.image(image)
            self._keep(_with_suffix(name, suffix), content, "image")

    def input(self, dataset: str, *, context: str = "") -> None:
        """Say that the run uses a version of a data set, such as `customers@3`, perhaps as its `training` rows.

        A name without a version is what noria.lock/ pins, else the newest, when this is sent.
        """
        with self._guarded(f"the input {dataset!r:.80} could not be kept"):
            self._append([journal.encode("i", self._fitting("a data set", str(dataset)), _name(context))])

    def model(self, model: Any, name: str, *, rows: Any = None, label: str = "", register: bool = False) -> None:
        """Keep a fitted model as a bundle: with signature, example rows and what it says of them.

        Args:
            rows: a data frame of the model's inputs, as it was trained on; `label` is a column that is none. A model
                without rows is not kept, which is told as a problem of the run: nothing here ends a training.
            register: make it the next version of the model `name` when the run ends.
        """
        with self._guarded(f"the model {name!r:.80} could not be kept"):
            if rows is None:
                raise UsageError("it is kept with rows of its inputs: run.model(model, name, rows=X_train)")
            environment = self._objects.put_json(environments.environment(self._project.state).document())
            rules = self._project.model(str(name))
            made = bundle.pack(
                self._objects,
                model,
                holdout=rows,
                label=label,
                environment=environment,
                name=str(name),
                allow_pickle=rules.allow_pickle,
                declared=rules.card,
            )
            tree = self._objects.get_json(made)["tree"]
            size = trees.tree_totals(self._objects, tree).size_bytes
            self._append([journal.encode("o", _name(name), made, tree, size, register)])

    def finish(self, status: str = "finished", reason: str = "") -> None:
        """End the run, and wait a while until everything is sent; a second end does nothing.

        Args:
            status: finished, failed or stopped.
        """
        with self._lock:
            if self._is_ended or os.getpid() != self._pid:
                return
            self._is_ended = True
        with self._guarded("the end of the run could not be written"):
            self._append([])
            if self._lost:
                log.warning("%d lines of run %s were lost: the disk took none", self._lost, self.run)
            if self._writer is not None:
                self._writer.sync()
            seconds = round(time.monotonic() - self._began_at, 6)
            journal.keep(self._folder, "end", {"status": status, "reason": reason[:500], "seconds": seconds})
        self._is_over.set()
        self._thread.join(self._wait_s)
        if self._folder.is_dir():
            log.warning("run %s is not wholly sent yet; it is kept, and the next noria command sends it", self.run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.finish("failed", error_line(error))

    def _log_metrics(self, values: Mapping[str, Any], step: int | None) -> None:
        at_us = int(self._clock.now().timestamp() * 1_000_000)
        pairs: list[tuple[str, int, float | str]] = []
        with self._lock:
            for given, value in values.items():
                name = _name(given)
                with self._guarded(f"the metric {name!r} could not be logged"):  # the others are, whatever it raises
                    try:
                        number = journal.number(float(value))
                    except (TypeError, ValueError, OverflowError):
                        self._problem(f"the metric {name!r} was given {type(value).__name__}, which is no number")
                        continue
                    place = self._steps.get(name, -1) + 1 if step is None else int(step)
                    if not journal.is_step(place):
                        self._problem(f"the metric {name!r} was given the step {place:.3e}, which is beyond 64 bits")
                        continue
                    self._steps[name] = place
                    pairs.append((name, place, number))
            chunks = [pairs[start : start + LINE_NAMES] for start in range(0, len(pairs), LINE_NAMES)]
            self._append([journal.encode("m", at_us, chunk) for chunk in chunks])

    def _log_texts(self, kind: str, pairs: Mapping[str, Any]) -> None:
        texts = []
        for key, value in dict(pairs).items():
            name = _name(key)
            with self._guarded(f"the {WORDS[kind]} {name!r:.80} could not be logged"):
                texts.append((name, self._fitting(f"the {WORDS[kind]} {name!r:.80}", str(value))))
        chunks = [dict(texts[start : start + LINE_TEXTS]) for start in range(0, len(texts), LINE_TEXTS)]
        self._append([journal.encode(kind, chunk) for chunk in chunks])

    def _fitting(self, what: str, text: str) -> str:
        """The text, cut where it is too long for a fact, which is then told."""
        text = journal.plain(text)
        if len(text) <= VALUE_MAX:
            return text
        self._problem(f"{what} of {len(text)} characters was cut to {VALUE_MAX}; keep it as an artifact")
        return text[:VALUE_MAX]

    def _keep(self, name: str, content: bytes | Path, kind: str) -> None:
        label = self._fitting("the name of an artifact", _file_name(name))
        stored = self._objects.put_bytes(content) if isinstance(content, bytes) else self._objects.put_file(content)
        self._append([journal.encode("a", label, stored, self._objects.size(stored), kind)])

    def _problem(self, text: str) -> None:
        log.warning("run %s: %s", self.run, text)
        self._append([journal.encode("x", journal.plain(text)[:VALUE_MAX])])

    def _append(self, lines: list[bytes]) -> None:
        """Write lines to this process's log before returning; what the disk refuses waits in memory."""
        with self._lock:
            self._backlog.extend(lines)
            if not self._backlog:
                return
            try:
                if self._writer is None or self._writer_pid != os.getpid():
                    self._writer = self._open_log()
                while self._backlog:
                    self._writer.append([self._backlog[0]])
                    self._backlog.popleft()
                self._is_refused = False
            except NoriaError as error:
                if not self._is_refused:  # said once, not at each line
                    log.warning("run %s: the log takes no lines, they wait in memory: %s", self.run, error.message)
                self._is_refused = True
                while len(self._backlog) > BACKLOG_MAX:
                    self._backlog.popleft()
                    self._lost += 1

    def _open_log(self) -> LineWriter:
        """The log of this process. A forked one has its own, behind that of the run's process."""
        self._writer_pid = os.getpid()
        number = 0 if self._writer_pid == self._pid else 1
        return LineWriter(self._folder / f"{number}-{self._writer_pid}-{uuid.uuid4().hex[:8]}.log")

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Inside, nothing raises into training: this is the boundary between its work and ours."""
        try:
            yield
        except NoriaError as error:
            self._problem(f"{what}: {error.message}")
        except Exception as error:
            log.exception("run %s: %s", self.run, what)
            self._problem(f"{what}: {error_line(error)}")

    def _work(self) -> None:
        """The thread: context, then syncs, leases and batches until the run is over and sent."""
        self._prepare()
        pause = FIRST_SEND_S
        due, leased = time.monotonic() + pause, float("-inf")
        while not self._is_over.wait(min(SYNC_S, pause)):
            with self._guarded("the log could not be synced"):
                if self._writer is not None:
                    self._writer.sync()
            now = time.monotonic()
            if now >= due:
                is_leasing = now - leased > sending.LEASE_S / 4
                self._sent(is_leasing)
                leased = now if is_leasing else leased
                pause = min(SEND_S, pause * 2)
                due = time.monotonic() + pause
        give_up = time.monotonic() + LAST_S
        while not self._sent(False) and self._folder.is_dir() and time.monotonic() < give_up:
            time.sleep(0.1)  # another process may be sending it

    def _sample(self) -> None:
        """The thread that samples what the run takes of the machine; a store that keeps another waiting does not it."""
        with self._guarded("what the machine does is not sampled any more"):
            sampler, number = system.Sampler(self._project.root), 0
            while not self._is_over.wait(system.EVERY_S if number else system.FIRST_S):
                pairs = [(name, number, value) for name, value in sampler.sample().items()]
                at_us = int(self._clock.now().timestamp() * 1_000_000)
                with self._lock:
                    if self._is_ended:
                        return
                    self._append([journal.encode("m", at_us, pairs)])
                number += 1

    def _sent(self, is_leased: bool) -> bool:
        """Send what there is. A store out of reach is no failure: the log keeps everything."""
        try:
            if not self._prepare():
                return False
            if self._ws is None:
                self._ws = self._open_workspace()
            if is_leased and not self._is_over.is_set():
                sending.keep_lease(self._ws, self.run, self._owner)
            return sending.send(self._ws, self._folder)
        except NoriaError as error:
            log.warning("run %s waits: %s", self.run, error.message)
        except Exception:
            log.exception("run %s could not be sent", self.run)
        return False

    def _prepare(self) -> bool:
        """Whether the code and environment are recorded, or were tried often enough to go on without them."""
        if self._context_tries < 0:
            return True
        try:
            self._record_context()
        except (NoriaError, OSError) as error:
            self._context_tries += 1
            if self._context_tries < CONTEXT_TRIES:
                log.warning("run %s: its code and environment are not recorded yet: %s", self.run, error)
                return False
            self._problem(f"the code and environment could not be recorded: {error}")
        self._context_tries = -1
        return True

    def _record_context(self) -> None:
        objects = self._objects
        code = codes.snapshot(self._project.root, objects, entry=self._entry)
        said = {
            "code": asdict(code),
            "environment": objects.put_json(environments.environment(self._project.state).document()),
            "host": objects.put_json(hosts.host().document()),
            "config": objects.put_json({}),
        }
        journal.keep(self._folder, "context", said)


def _unlocking(ref: weakref.ref[Recording]) -> Callable[[], None]:
    """What a forked process does first: the lock may be held by a thread that it does not have."""

    def unlock() -> None:
        recording = ref()
        if recording is not None:
            recording._lock = threading.RLock()

    return unlock


def _with_suffix(name: str, suffix: str) -> str:
    return name if Path(name).suffix else f"{name}{suffix}"


def _name(given: object) -> str:
    """What something is called, as every store can hold it and no longer than a name may be."""
    return journal.plain(str(given))[:NAME_MAX]


def _file_name(name: str) -> str:
    """The name of a file below the run's own. Raises: UsageError for one that leads elsewhere or nowhere."""
    parts = [part for part in str(name).split("/") if part != "."]
    if not parts or "\0" in name or any(part in ("", "..") or len(part.encode()) > 255 for part in parts):
        raise UsageError("a name is relative, of parts of 255 bytes at most, without .., empty parts and U+0000")
    return "/".join(parts)
