"""Evidence: is the ledger still what was signed, and how to take it elsewhere.

`verify` recomputes everything and compares it with the signed checkpoints in the database, with the
last one that this client saw, and with one kept elsewhere, if it is given. Without any checkpoint
from outside of the database nothing is proved against somebody who could write it; the report says
what was compared. Whoever holds database and key can forge what came after the last outside checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from noria.core.errors import Corrupt, NotFound, Tampered, UsageError
from noria.core.identity import short
from noria.core.verb import verb
from noria.store.checkpoint import Checkpoint, Verifier, is_signed_by, parse_checkpoint, parse_verifier
from noria.store.objects import disk_faults
from noria.store.replay import difference
from noria.store.verify import verify as verify_log
from noria.store.workspace import Workspace

__all__ = ["AuditReport", "Export", "export", "verify"]

PAGE = 2000
SIGNERS = "signers"
"""A file in `.noria/` with verifier keys of other machines that write the same ledger, one a line."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found. `first_bad` is the first wrong sequence number, 0 if all is well.

    `kind` is edited, deleted, inserted, reordered, truncated, forked, unsigned, checkpoint, tree, damaged,
    record (facts are well, but a record is not their fold), or object (facts and records are well, but
    a stored object is altered or gone; `first_bad` is then the first fact that gave it). `root` is hex;
    `compared` says with what, `objects` how many were read, `altered` which are not what they were.
    """

    ok: bool
    size: int
    root: str
    checkpoint: str
    first_bad: int
    kind: str
    message: str
    compared: tuple[str, ...]
    objects: int = 0
    altered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Export:
    """Where the ledger was written to, and how much of it."""

    folder: str
    facts: int
    files: tuple[str, ...]


@verb(permission="governance.audit", changes=False)
def verify(ws: Workspace, checkpoint: str = "") -> AuditReport:
    """Recompute the ledger and its records, compare them with signed checkpoints, and read every stored object.

    Args:
        checkpoint: the text of a checkpoint that was kept elsewhere (`noria audit export` writes one).
    Raises: Tampered if the given text is not a checkpoint of this ledger, signed by a known key.
    """
    signer = ws.ledger.signer
    verifiers = [signer.verifier, *_other_signers(ws)]
    outside: list[Checkpoint] = []
    compared = ["the checkpoints in the database"]
    seen = ws.ledger.seen.checkpoint()
    if seen is not None and seen.size:
        outside.append(seen)
        compared.append(f"the last checkpoint that this client saw (size {seen.size})")
    if checkpoint:
        outside.append(_from_elsewhere(checkpoint, signer.origin, verifiers))
        compared.append(f"the given checkpoint (size {outside[-1].size})")
    found = verify_log(ws.ledger, verifiers, outside)
    kind, message = found.kind, found.message
    if not kind:
        rows = difference(ws.ledger, limit=1)
        if rows:
            kind, message = "record", f"the record table {rows[0][0]} is not the fold of the facts: {rows[0][1][:200]}"
    count, bad = _objects(ws)
    first = found.first_bad
    if not kind and bad:
        kind, (first, message) = "object", _object_message(ws, bad)
    return AuditReport(
        ok=not kind,
        size=found.size,
        root=found.root.hex(),
        checkpoint="" if kind else ws.ledger.checkpoint(),
        first_bad=first,
        kind=kind,
        message=message or f"{found.size} facts match their signed tree, {count} objects are what they were",
        compared=tuple(compared),
        objects=count,
        altered=tuple(bad),
    )


def _objects(ws: Workspace) -> tuple[int, list[str]]:
    """Read every stored object anew; gives how many there are, and those whose bytes are not theirs."""
    bad = []
    count = 0
    for name in ws.objects.names():
        count += 1
        try:
            ws.objects.verify(name)
        except (Corrupt, NotFound):
            bad.append(str(name))
    return count, sorted(bad)


def _object_message(ws: Workspace, bad: list[str]) -> tuple[int, str]:
    """The first fact that gave one of the objects, and what to say of them all."""
    givers = []
    for name in bad:
        for fact in ws.ledger.facts(ref=name, limit=1):
            roles = [role for role, ref in (*fact.fact.outputs, *fact.fact.inputs) if ref == name]
            givers.append(
                (fact.seq, f"{short(name)} ({roles[0] if roles else 'part'} of {fact.fact.kind}, fact {fact.seq})")
            )
    named = "; ".join(text for _, text in sorted(givers)[:3])
    rest = len(bad) - min(len(givers), 3)
    more = f" and {rest} more that are parts of others" if rest else ""
    return min((seq for seq, _ in givers), default=0), f"{len(bad)} stored objects were altered: {named}{more}"


@verb(permission="governance.audit", changes=False, where="project")
def export(ws: Workspace, to: str) -> Export:
    """Write the ledger as plain files into a folder of the project: facts.jsonl, checkpoint.txt, key.pub.

    A line of facts.jsonl holds `seq`, `leaf` (hex) and `fact`, the exact canonical text that the leaf
    covers (leaf = sha256(0x00 ‖ text), RFC 6962). Existing files are replaced.

    Raises: UsageError for a folder outside of the project.
    """
    root = ws.project.root.resolve()
    folder = (root / to).resolve()
    if not folder.is_relative_to(root):
        raise UsageError(f"{to} is outside of the project", hint="export into a folder of the project, then move it")
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        note = ws.ledger.checkpoint()
        count = _write_facts(ws, folder / "facts.jsonl", parse_checkpoint(note).size)
        (folder / "checkpoint.txt").write_text(note, encoding="utf-8")
        (folder / "key.pub").write_text(f"{ws.ledger.signer.verifier}\n", encoding="utf-8")
    return Export(str(folder), count, ("facts.jsonl", "checkpoint.txt", "key.pub"))


def _write_facts(ws: Workspace, path: Path, size: int) -> int:
    """The first `size` facts: those that the checkpoint beside the file covers."""
    count = 0
    with path.open("w", encoding="utf-8") as sink:
        while count < size:
            page = ws.ledger.bodies(after=count, limit=min(PAGE, size - count))
            if not page or page[-1].seq != count + len(page):
                raise Tampered(
                    f"facts are missing behind {count}; nothing after them was written",
                    hint="noria audit verify names what is wrong",
                )
            for stored in page:
                line = {"seq": stored.seq, "leaf": stored.leaf.hex(), "fact": stored.body}
                sink.write(json.dumps(line, ensure_ascii=False) + "\n")
                count = stored.seq
    return count


def _other_signers(ws: Workspace) -> list[Verifier]:
    path = ws.project.state / SIGNERS
    if not path.exists():
        return []
    with disk_faults(path):
        return [parse_verifier(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _from_elsewhere(text: str, origin: str, verifiers: list[Verifier]) -> Checkpoint:
    found = parse_checkpoint(text if text.endswith("\n") else text + "\n")
    if found.origin != origin:
        raise Tampered(
            f"the checkpoint is of another log, {found.origin[:80]!r}; this one is {origin!r}",
            hint="was the ledger replaced? restore it from a backup",
        )
    if not is_signed_by(found, verifiers):
        raise Tampered(
            "the checkpoint is not signed by a key that is known here",
            hint=f"put the signer's key.pub into .noria/{SIGNERS} if you trust it",
        )
    return found
