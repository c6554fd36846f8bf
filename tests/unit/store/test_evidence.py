"""A fact with its proof: it holds as it is, and with nothing changed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from noria.core.errors import NotFound, Tampered
from noria.governance.facts import ApprovalGiven
from noria.store.evidence import checked, evidence
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory


@pytest.fixture
def ws() -> Workspace:
    made = open_memory()
    for number in range(11):
        with made.ledger.transaction() as tx:
            tx.append(ApprovalGiven(about=f"thing-{number}", digest="d", role="lead"))
    return made


def test_every_fact_can_be_proved_at_any_later_size(ws: Workspace) -> None:
    for seq in range(1, 12):
        fact, key = checked(json.loads(json.dumps(evidence(ws.ledger, seq))), "here")
        assert fact.data["about"] == f"thing-{seq - 1}"
        assert key == str(ws.ledger.signer.verifier)
    with pytest.raises(NotFound):
        evidence(ws.ledger, 12)


def changed(document: dict[str, Any], field: str) -> dict[str, Any]:
    other = copy.deepcopy(document)
    value = other[field]
    if field == "fact":
        other[field] = value.replace("thing-3", "thing-4")
    elif field == "seq":
        other[field] = value + 1
    elif field == "proof":
        other[field] = [value[0][:-1] + ("0" if value[0][-1] != "0" else "1"), *value[1:]]
    elif field == "checkpoint":
        other[field] = value.replace("\n11\n", "\n12\n")
    elif field == "key":
        other[field] = str(open_memory().ledger.signer.verifier)
    else:
        other[field] = "fact/9"
    assert other != document
    return other


@pytest.mark.parametrize("field", ["format", "fact", "seq", "proof", "checkpoint", "key"])
def test_any_change_is_found(ws: Workspace, field: str) -> None:
    document = json.loads(json.dumps(evidence(ws.ledger, 4)))
    with pytest.raises(Tampered) as error:
        checked(changed(document, field), "here")
    assert error.value.where in ("here", "")


@pytest.mark.parametrize("document", [None, [], {}, {"format": "fact/1"}, {"format": "fact/1", "fact": 1, "seq": "x"}])
def test_what_is_no_evidence_is_refused(document: Any) -> None:
    with pytest.raises(Tampered):
        checked(document, "here")
