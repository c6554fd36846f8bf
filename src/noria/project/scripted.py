"""The part of an explanation that is about a script: its command, what it read and left, what it fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.core.identity import short
from noria.project.chain import Link
from noria.scripts import records
from noria.store.workspace import Workspace

__all__ = ["links"]

MAX_FILES = 50
MAX_PARAMS = 6


def links(ws: Workspace, run: str) -> list[Link]:
    """What a run of a script did; nothing for a run of a pipeline."""
    with ws.ledger.read() as tx:
        found = records.captured(tx, run)
    if found is None:
        return []
    document = ws.objects.get_json(found.document)
    ended = f"exit code {found.exit_code}" if found.exit_code >= 0 else f"killed by signal {-found.exit_code}"
    read, written = document["read"], document["written"]
    text = f"{' '.join(found.command)}: {ended}, read {_files(len(read))}, left {_files(len(written))}"
    details = {key: document[key] for key in ("fits", "models", "notes", "code", "log")}
    made = [Link(what="script", ref=found.document, text=text, at=found.at, details=details)]
    params = ", ".join(f"{name}={value}" for name, value in list(found.params.items())[:MAX_PARAMS])
    if params:
        more = f" and {len(found.params) - MAX_PARAMS} more" if len(found.params) > MAX_PARAMS else ""
        made.append(
            Link(what="parameters", ref=found.document, text=f"{params}{more}", details={"params": dict(found.params)})
        )
    made += [_file("input", each) for each in read[:MAX_FILES]]
    return made + [_file("output", each) for each in written[:MAX_FILES]]


def _files(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"


def _file(what: str, each: Mapping[str, Any]) -> Link:
    dataset = f", in {each['dataset']}" if each["dataset"] else ""
    note = f" ({each['note']})" if each["note"] else ""
    named = f", {short(each['digest'])}" if each["digest"] else ""
    text = f"{each['path']}: {each['size_bytes']:,} bytes{named}{dataset}{note}"
    return Link(what=what, ref=str(each["digest"]), text=text, details=dict(each))
