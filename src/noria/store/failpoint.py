"""Named points where a test may kill the process, to prove that nothing is left half done.

`NORIA_FAILPOINT=append.fact:3` sends SIGKILL to this very process at the third pass through the
point of that name. Without the variable a point costs one comparison. Every name is listed in
`NAMES`; the fault tests walk the list, so a point that is not listed is a bug and is refused.
"""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["NAMES", "failpoint"]

NAMES: tuple[str, ...] = (
    "start.key",
    "start.tables",
    "start.committed",
    "migration.started",
    "migration.kept",
    "migration.done",
    "records.cleared",
    "records.folded",
    "transaction.begun",
    "append.fact",
    "append.projected",
    "commit.before",
    "commit.after",
    "seen.written",
    "object.temp",
    "object.synced",
    "object.renamed",
    "pack.appended",
    "pack.marked",
    "pack.synced",
    "pack.indexed",
    "chunks.stored",
    "recipe.synced",
    "recipe.renamed",
    "repack.copied",
    "repack.moved",
    "lease.written",
    "collect.marked",
    "collect.trashed",
    "collect.purged",
    "trash.copied",
    "trash.restored",
    "line.written",
    "series.flushed",
    "seal.object",
    "seal.discarded",
    "job.enqueued",
    "job.claimed",
    "job.finished",
    "lease.acquired",
    "data.copied",
    "data.committed",
    "checkout.staged",
    "checkout.removed",
    "checkout.placed",
    "push.sent",
    "push.objects",
    "pull.got",
    "pull.objects",
    "attempt.begun",
    "attempt.ended",
    "checkpoint.stored",
    "step.stored",
    "step.settled",
    "step.finished",
    "run.started",
    "run.resumed",
    "run.finished",
    "script.ended",
    "batch.stored",
    "batch.sent",
    "recording.ended",
    "import.stored",
    "import.added",
    "import.evalset",
    "import.filed",
    "import.records",
    "upload.begun",
    "upload.part",
    "upload.joined",
    "direct.begun",
    "direct.joined",
    "direct.copied",
    "model.bundled",
    "model.registered",
    "version.bundled",
    "gate.judged",
    "release.made",
    "release.moved",
    "model.promoted",
    "deployment.changed",
    "rollout.advanced",
    "predictions.sealed",
    "labels.sealed",
    "review.decided",
    "review.judged",
    "loop.ticked",
    "tick.decided",
    "tick.ended",
    "study.started",
    "trial.started",
    "trial.ended",
    "study.ended",
    "backup.begun",
    "backup.files",
    "backup.ledger",
    "backup.objects",
    "backup.done",
    "restore.laid",
    "restore.objects",
    "restore.verified",
    "restore.poured",
    "restore.done",
)

_KNOWN = frozenset(NAMES)
_lock = threading.Lock()
_armed, _, _count_text = os.environ.get("NORIA_FAILPOINT", "").partition(":")
_left = int(_count_text or 1)


def failpoint(name: str) -> None:
    """Die here by SIGKILL if the environment armed this point; else do nothing. Thread safe."""
    assert name in _KNOWN, f"{name} is not in failpoint.NAMES"
    if name != _armed:
        return
    global _left
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
