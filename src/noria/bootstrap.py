"""The composition root: the one place that chooses engines and puts a workspace together.

A workspace opens in one read when there is nothing to do. Heavy libraries, the signing key and
Alembic are reached only by what needs them.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from noria import plugins
from noria.config import Project, find_project, load_project
from noria.core.clock import Clock
from noria.core.errors import ConfigError
from noria.core.lazy import lazy
from noria.core.size import size_bytes
from noria.store.localcopies import LocalCopies
from noria.store.objects import Objects, ObjectStore

if TYPE_CHECKING:
    from noria.loop import settings
    from noria.schedule import settings as schedules
    from noria.store import checkpoint, database, disk, jobs, ledger, seen, series, slices, start, workspace
    from noria.store.workspace import Workspace
else:  # a script that only records opens the objects, and a thread of it the rest later
    settings, schedules = lazy("noria.loop.settings"), lazy("noria.schedule.settings")
    checkpoint, database, disk = lazy("noria.store.checkpoint"), lazy("noria.store.database"), lazy("noria.store.disk")
    jobs, ledger, seen = lazy("noria.store.jobs"), lazy("noria.store.ledger"), lazy("noria.store.seen")
    series, slices, start = lazy("noria.store.series"), lazy("noria.store.slices"), lazy("noria.store.start")
    workspace = lazy("noria.store.workspace")

__all__ = ["WallClock", "open_staging", "open_workspace"]


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, UTC."""
        return datetime.now(UTC)


def open_workspace(
    root: Path | None = None,
    *,
    actor: str = "",
    project: Project | None = None,
    clock: Clock | None = None,
    is_audit: bool = False,
) -> Workspace:
    """The workspace of the project at `root`, or of the one that the current folder is in.

    The first call makes `.noria/`. Safe from many processes at once, and at any kill.

    Args:
        actor: who acts; else NORIA_ACTOR, else `user:` and the login name.
        project: settings that are already read; `root` is then not looked at.
        is_audit: whether it is opened to be audited, so that a ledger which is not the one seen before opens too.
    Raises: NotAProject; ConfigError; StoreUnavailable; StoreFull; Corrupt; Tampered.
    """
    project = project or load_project(find_project(root or Path.cwd()))
    settings.require(project)
    if project.schedules:
        schedules.require(project)
    clock = clock or WallClock()
    actor = actor or os.environ.get("NORIA_ACTOR", "") or f"user:{getpass.getuser()}"
    state = project.state.resolve()
    declared = slices.load_slices()
    disk.make_state(state)
    opened = database.Database(database.database_url(project.store.database, state))
    last = seen.Seen(state / "seen")
    try:
        origin = start.start(opened, declared, last, project.name, is_audit=is_audit)
    except BaseException:
        opened.close()
        raise
    facts = ledger.Ledger(
        opened,
        slices=declared,
        # Each clone that writes a shared database has a key of its own; a ledger in a file has one.
        signer=lambda: checkpoint.open_signer(
            state / "key", origin, has_facts=lambda: opened.is_sqlite and facts.head() > 0
        ),
        seen=last,
        clock=clock,
        actor=actor,
    )
    copies = LocalCopies(state / "cache", size_bytes(project.store.cache))
    objects = Objects(_object_store(project.store.objects, project, state), state / "cache", copies)
    return workspace.Workspace(
        objects=objects,
        ledger=facts,
        series=series.Series(state / "series", objects, clock),
        jobs=jobs.Jobs(opened, clock),
        clock=clock,
        actor=actor,
        project=project,
    )


def open_staging(project: Project, folder: Path) -> Objects:
    """Where a recording keeps objects before the ledger is reached: the project's store if it is on this machine.

    Args:
        folder: what takes them if the store is elsewhere.
    """
    state = project.state.resolve()
    is_here = "://" not in project.store.objects or project.store.objects.startswith("file://")
    store = _object_store(project.store.objects, project, state) if is_here else plugins.load("objects", "file")(folder)
    return Objects(store, state / "cache", LocalCopies(state / "cache", size_bytes(project.store.cache)))


def _object_store(url: str, project: Project, state: Path) -> ObjectStore:
    scheme, separator, rest = url.partition("://")
    if not url:
        made: ObjectStore = plugins.load("objects", "file")(state / "objects")
    elif not separator:
        made = plugins.load("objects", "file")(project.root / url)
    elif scheme == "file":
        made = plugins.load("objects", "file")(Path(rest))
    elif scheme == "s3":
        if importlib.util.find_spec("boto3") is None:
            raise ConfigError("store.objects on S3 needs boto3, which is not here", hint="pip install 'noria[s3]'")
        made = plugins.load("objects", "s3")(url, cache=state / "cache" / "packs")
    elif scheme in plugins.names("objects"):
        made = plugins.load("objects", scheme)(url)
    else:
        raise ConfigError(
            f"store.objects {scheme!r} is not a store that is known",
            hint=f"a folder, or one of: {', '.join(plugins.names('objects'))}",
        )
    return made
