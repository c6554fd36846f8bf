"""Evidence: is the ledger still what was signed, and how to take it elsewhere.

`verify` recomputes everything and compares it with the signed checkpoints in the database, with the
last one that this client saw, and with one kept elsewhere, if it is given. Without any checkpoint
from outside of the database nothing is proved against somebody who could write it; the report says
what was compared. Whoever holds database and key can forge what came after the last outside checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path

from noria.core.errors import Corrupt, NotFound, Tampered, UsageError
from noria.core.frozen import frozen
from noria.core.identity import is_digest, short
from noria.core.verb import verb
from noria.store.checkpoint import Checkpoint, Verifier, is_signed_by, parse_checkpoint, parse_verifier
from noria.store.contents import Contents, named
from noria.store.linelog import read_lines
from noria.store.objects import disk_faults
from noria.store.replay import difference
from noria.store.sealed import altered_rows
from noria.store.tree import is_tree, iter_tree, tree_nodes
from noria.store.verify import verify as verify_log
from noria.store.workspace import Workspace

__all__ = ["SIGNERS", "AuditReport", "Export", "export", "lacking", "verifiers_of", "verify"]

PAGE = 2000
LOGS = ("predictions", "labels")
BLOCK = 8 << 20
SIGNERS = "signers"
"""A file in `.noria/` with verifier keys of other machines that write the same ledger, one a line."""


@frozen
class AuditReport:
    """What an audit found. `first_bad` is the first wrong sequence number, 0 if all is well.

    `kind` is edited, deleted, inserted, reordered, truncated, forked, unsigned, checkpoint, tree, damaged,
    signer (facts agree with their checkpoints, and a key that is not known here signed some: another clone
    that writes this ledger, or a forger; its `signer` is the line for .noria/signers), record (facts are well,
    but a record is not their fold), queue (a row of a job or a lease is not what was written), object (facts
    and records are well, but a stored object is altered or gone; `first_bad` is then the first fact that gave
    it), or log (all of that is well, but a file of predictions or labels that no fact has sealed yet holds
    damaged lines).
    `root` is hex; `compared` says with what, `objects` how many were read (none if the facts are not
    well), `altered` which objects or log files are altered or gone, `lines` how many lines of logs were read.
    `store` is where objects are, `ledger` the database of the facts ("" for the file in .noria), `signer` the
    public key of this clone.
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
    lines: int = 0
    store: str = ".noria/objects"
    ledger: str = ""
    signer: str = ""


@frozen
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
    Raises: UsageError if the given text is no checkpoint; Tampered if it is not one of this ledger, signed by
        a known key.
    """
    signer = ws.ledger.signer
    verifiers = verifiers_of(ws)
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
    if not kind:
        queue = altered_rows(ws.ledger.database)
        if queue:
            kind, message = "queue", f"a row of the table {queue[0][0]} is not what was written: {queue[0][1][:200]}"
    # Which object belongs to what is read from the facts: where those are not well, they come first.
    count, bad = (0, []) if kind else _objects(ws)
    first = found.first_bad
    if not kind and bad:
        kind, first, message = "object", bad[0].seq, _object_message(bad)
    lines, torn = _logs(ws.project.state)
    if not kind and torn:
        kind, message = "log", f"a log is not what was written: {'; '.join(torn.values())}"
    return AuditReport(
        ok=not kind,
        size=found.size,
        root=found.root.hex(),
        checkpoint="" if kind else ws.ledger.checkpoint(),
        first_bad=first,
        kind=kind,
        message=message
        or f"{found.size} facts match their signed tree, {count} objects and {lines} lines of logs are what they were",
        compared=tuple(compared),
        objects=count,
        altered=tuple(torn) if kind == "log" else tuple(each.digest for each in bad),
        lines=lines,
        store=ws.project.store.objects or ".noria/objects",
        ledger="" if ws.ledger.database.is_sqlite else ws.ledger.database.where,
        signer=str(signer.verifier),
    )


def _logs(state: Path) -> tuple[int, dict[str, str]]:
    """Read every line that is not sealed yet; gives how many there are, and what is wrong by file.

    A torn last line is no damage: nobody was answered for it. A file that is sealed and removed
    meanwhile is an object by then.
    """
    count, wrong = 0, {}
    for path in sorted(file for kind in LOGS for file in (state / kind).glob("*/*.log")):
        offset, is_going = 0, True
        try:
            while is_going:
                lines, after = read_lines(path, offset, limit_bytes=BLOCK)
                count, is_going, offset = count + len(lines), after > offset, after
        except Corrupt as error:
            name = str(path.relative_to(state))
            wrong[name] = f"{name}: {error.message}"
    return count, wrong


@frozen
class _Bad:
    """An object that is altered or gone, and the first fact that names it (0: none does)."""

    digest: str
    state: str
    seq: int = 0
    role: str = ""

    def __str__(self) -> str:
        about = f"{self.role}, fact {self.seq}" if self.seq else "named by no fact"
        return f"{short(self.digest)} is {self.state} ({about})"


def _objects(ws: Workspace) -> tuple[int, list[_Bad]]:
    """Read every stored object anew, and look for every one that a fact gave; gives how many there are."""
    altered: set[str] = set()
    known: set[str] = set()
    for name in ws.objects.names():
        known.add(str(name))
        try:
            ws.objects.verify(name)
        except (Corrupt, NotFound):
            altered.add(str(name))
    bad: dict[str, _Bad] = {}
    dropped = _dropped(ws)
    for seq, role, digest in _given(ws, known - altered - dropped):
        if digest in dropped and digest not in known:
            continue  # a collection took it, because a fact says that it is not to be kept
        if digest not in bad and (digest in altered or digest not in known):
            bad[digest] = _Bad(digest, "altered" if digest in altered else "gone", seq, role)
    rest = altered - bad.keys()
    taken = _taken(ws, rest) if rest else {}
    others = [_Bad(digest, "altered", *taken.get(digest, ())) for digest in rest]
    return len(known), sorted([*bad.values(), *others], key=lambda each: (each.seq == 0, each.seq, each.digest))


def lacking(ws: Workspace, known: Set[str]) -> list[str]:
    """What the facts gave and `known` does not hold: objects that an audit would name as gone. Bytes stay unread.

    Args:
        known: the names of the objects that there are.
    Raises: Corrupt; NotFound.
    """
    dropped = _dropped(ws)
    given = _given(ws, set(known) - dropped)
    return sorted({digest for _, _, digest in given if digest not in known and digest not in dropped})


def _dropped(ws: Workspace) -> set[str]:
    """What is not to be kept: trees of versions of data sets that were dropped, and what clients said before.

    Those that a version has that is kept, or that are said still, are not among them.
    """
    said = Contents()
    kept: dict[tuple[str, int], str] = {}
    found: set[str] = set()
    after = 0
    while page := ws.ledger.bodies(after=after, limit=PAGE):
        for stored in page:
            after = stored.seq
            document = json.loads(stored.body)
            said.read(document["kind"], document["data"])
            if document["kind"] not in ("dataset.committed", "dataset.dropped"):
                continue
            data = document["data"]
            kept[data["name"], data["version"]] = data["tree"]
            if document["kind"] == "dataset.dropped":
                del kept[data["name"], data["version"]]
                found.add(data["tree"])
    return (found | said.before()) - set(kept.values()) - said.now()


def _given(ws: Workspace, readable: set[str]) -> Iterator[tuple[int, str, str]]:
    """(fact, what it is there, digest) of every object that a fact gave, and of every file of its trees."""
    expanded: set[str] = set()
    after = 0
    while page := ws.ledger.bodies(after=after, limit=PAGE):
        for stored in page:
            document = json.loads(stored.body)
            for role, ref in document["outputs"]:
                if not is_digest(ref):
                    continue
                yield stored.seq, f"{role} of {document['kind']}", ref
                if ref in readable and ref not in expanded and is_tree(ws.objects, ref):
                    expanded.add(ref)
                    for part, digest in _in_tree(ws, ref):
                        yield stored.seq, f"{part} the {role} of {document['kind']}", digest
            for what, digest in named(document["kind"], document["data"]):
                if is_digest(digest):
                    yield stored.seq, f"{what} of {document['kind']}", digest
            after = stored.seq


def _taken(ws: Workspace, wanted: set[str]) -> dict[str, tuple[int, str]]:
    """Of some objects those that a fact names without having given them: the first that does, and as what."""
    found: dict[str, tuple[int, str]] = {}
    after = 0
    while page := ws.ledger.bodies(after=after, limit=PAGE):
        for stored in page:
            after = stored.seq
            document = json.loads(stored.body)
            for role, ref in document["inputs"]:
                if ref in wanted:
                    found.setdefault(ref, (stored.seq, f"{role} of {document['kind']}"))
    return found


def _in_tree(ws: Workspace, tree: str) -> Iterator[tuple[str, str]]:
    """(what it is, digest) of every node and file of a tree, as far as its nodes can be read."""
    try:
        for node in tree_nodes(ws.objects, tree):
            yield "a part of", node
        for entry in iter_tree(ws.objects, tree):
            yield f"{entry.path} in", entry.digest
    except (Corrupt, NotFound):
        return  # the node that cannot be read was named before it was read


def _object_message(bad: list[_Bad]) -> str:
    shown = "; ".join(str(each) for each in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    many = f"{len(bad)} stored objects are not what they were" if len(bad) > 1 else "a stored object is not what it was"
    return f"{many}: {shown}{more}"


@verb(permission="governance.export", changes=False, where="project")
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


def verifiers_of(ws: Workspace) -> list[Verifier]:
    """The keys whose signatures count here: our own, and those of `.noria/signers`. Raises: Tampered for a bad one."""
    path, own = ws.project.state / SIGNERS, ws.ledger.signer.verifier
    if not path.exists():
        return [own]
    with disk_faults(path):
        return [own, *(parse_verifier(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())]


def _from_elsewhere(text: str, origin: str, verifiers: list[Verifier]) -> Checkpoint:
    try:
        found = parse_checkpoint(text if text.endswith("\n") else text + "\n")
    except Tampered as error:
        hint = "noria audit export writes one: checkpoint.txt, whole"
        raise UsageError(f"what was given is no checkpoint: {error.message}", hint=hint) from error
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
