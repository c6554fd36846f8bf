"""What the steps of a run printed: their files while those are here, else the objects that their facts name."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path

from noria.core.errors import NotFound, WorldError
from noria.core.frozen import frozen
from noria.pipeline import records
from noria.store.workspace import Workspace

__all__ = ["Printed", "logs_of"]


@frozen
class Printed:
    """The log of one step, or of one item of a mapped one: a file of this machine, or an object's digest."""

    step: str
    path: Path | None = None
    digest: str = ""

    def read(self, ws: Workspace, place: int, most: int, *, is_final: bool) -> tuple[str, int, bool]:
        """At most so many bytes from a place on, whole lines where it can be; where the next begin, and if there are.

        A character of which only a part is written is left for the next time, unless nothing more comes.
        """
        content, has_more = self._bytes(ws, place, most)
        if has_more and b"\n" in content:
            content = content[: content.rindex(b"\n") + 1]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(content, final=is_final and not has_more)
        return text, place + len(content) - len(decoder.getstate()[0]), has_more

    def _bytes(self, ws: Workspace, place: int, most: int) -> tuple[bytes, bool]:
        if self.path is None:
            try:
                whole = ws.objects.get_bytes(self.digest) if place == 0 else b""
            except (NotFound, WorldError):  # logs are taken away before results are: nothing is left to show
                whole = b""
            return whole, False  # at once: reading an object in pieces would read it whole each time
        with self.path.open("rb") as file:
            file.seek(place)
            content = file.read(most)
            return content, bool(file.read(1))


def logs_of(ws: Workspace, run: str, step: str, *, is_over: bool) -> list[Printed]:
    """The logs of a run, or those of a step with all of its items, in the order in which they were written last.

    What the ledger names is asked for where the run is over, or a step is wanted that left no file: it ran elsewhere.
    """
    folder = ws.project.state / "runs" / run
    paths = {path.stem: path for path in folder.glob("*.log") if _is_of(path.stem, step)}
    changed = {name: (path.stat().st_ctime_ns, name) for name, path in paths.items()}
    found = [Printed(name, path=paths[name]) for name in sorted(paths, key=changed.__getitem__)]
    if is_over or (step and not found):
        kept = _kept(ws, run)
        found += [Printed(name, digest=kept[name]) for name in kept if name not in paths and _is_of(name, step)]
    return sorted(found, key=lambda each: _place(each.step)) if step else found


def _kept(ws: Workspace, run: str) -> Mapping[str, str]:
    with ws.ledger.read() as tx:
        known = (*records.steps(tx, run), *records.items(tx, run))
    return {each.step: each.log for each in known if each.log}


def _is_of(name: str, step: str) -> bool:
    """Whether a log is that of the step, or of one of its items; of any without a step."""
    if not step or name == step:
        return True
    mapped, _, item = name.rpartition(".")
    return mapped == step and item.isdigit()


def _place(name: str) -> tuple[str, int]:
    """Items in the order of their numbers, after the step's own log."""
    mapped, _, item = name.rpartition(".")
    return (mapped, int(item)) if mapped and item.isdigit() else (name, -1)
