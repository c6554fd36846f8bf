"""What clients file: numbers are given once, names and what they stand for go together, and bundles stay."""

from __future__ import annotations

from typing import Any

import pytest

from noria.core.errors import Conflict, NotFound, UsageError
from noria.governance.lineage import ancestors
from noria.registry import filing, records, release, versions
from noria.registry.filing import Filed, Taken
from noria.store.replay import difference
from noria.store.workspace import Workspace


def file(ws: Workspace, model: str = "kept", **said: Any) -> int:
    """A version of files, of a model that is named first if need be."""
    with ws.ledger.read() as tx:
        is_named = bool(records.named(tx, model))
    if not is_named:
        filing.file_model(ws, model, description="d", tags={"team": "red"})
    return filing.file_version(ws, model, Filed(source="s3://b/m", storage="s3://b/m", **said))


def test_a_number_is_given_once_also_after_a_removal(ws: Workspace) -> None:
    assert [file(ws), file(ws), file(ws)] == [1, 2, 3]
    filing.remove_version(ws, "kept", 3)
    filing.remove_version(ws, "kept", 1)
    assert file(ws) == 4
    assert [each.version for each in versions.versions(ws, "kept")] == [4, 2]
    for number in (0, 1, 3, 99, -1):
        with pytest.raises(NotFound):
            filing.remove_version(ws, "kept", number)


def test_bundles_and_files_share_the_numbers_of_a_model(ws: Workspace, register: Any) -> None:
    assert register("weak").version == 1
    assert filing.file_version(ws, "m", Filed(source="s3://b/m", storage="s3://b/m")) == 2
    assert register("strong").version == 3
    with ws.ledger.read() as tx:
        assert [bool(each.bundle) for each in records.versions_of(tx, ["m"])] == [True, False, True]


def test_what_noria_made_is_not_removed_or_renamed_by_a_client(ws: Workspace, register: Any) -> None:
    register("weak")
    before = ws.ledger.head()
    with pytest.raises(Conflict, match="m:1 is a bundle"):
        filing.remove_version(ws, "m", 1)
    with pytest.raises(Conflict, match="stays"):
        filing.remove_model(ws, "m")
    with pytest.raises(Conflict, match="stays"):
        filing.rename_model(ws, "m", "other")
    assert ws.ledger.head() == before


def test_files_are_no_release(ws: Workspace) -> None:
    file(ws)
    with pytest.raises(UsageError, match="no bundle: it cannot be released"):
        release.make(ws, "kept", 1)
    assert ws.ledger.facts(kind="release.made") == []


def test_a_rename_takes_everything_along_also_where_it_came_from(ws: Workspace) -> None:
    file(ws, run="run_1", logged="m-1", tags={"a": "1"})
    filing.point_alias(ws, "kept", "best", 1)
    filing.tag(ws, "kept", "b", "2", version=1)
    filing.stage_version(ws, "kept", 1, "Staging")
    filing.file_model(ws, "taken")
    with pytest.raises(Taken):
        filing.rename_model(ws, "kept", "taken")
    filing.rename_model(ws, "kept", "moved")
    with ws.ledger.read() as tx:
        [found] = records.named(tx, "moved")
        [version] = records.versions_of(tx, ["moved"])
        assert records.named(tx, "kept") == records.versions_of(tx, ["kept"]) == []
    assert (found.description, found.tags, found.aliases) == ("d", {"team": "red"}, {"best": 1})
    assert (version.tags, version.stage) == ({"a": "1", "b": "2"}, "Staging")
    assert {"run/run_1", "logged-model/m-1", "model/kept:1"} <= {link.ref for link in ancestors(ws, "model/moved:1")}
    assert difference(ws.ledger) == []


def test_a_removed_model_leaves_nothing_behind_for_the_next_of_its_name(ws: Workspace) -> None:
    file(ws, tags={"a": "1"})
    filing.point_alias(ws, "kept", "best", 1)
    filing.remove_model(ws, "kept")
    filing.file_model(ws, "kept")
    with ws.ledger.read() as tx:
        [found] = records.named(tx, "kept")
    assert (found.description, found.tags, found.aliases) == ("", {}, {})
    assert file(ws) == 1
    assert [fact.fact.kind for fact in ws.ledger.facts(subject="model/kept")][:4] == [
        "model.filed", "version.filed", "alias.moved", "model.removed",
    ]  # fmt: skip


def test_what_changes_nothing_is_no_fact(ws: Workspace) -> None:
    file(ws)
    filing.point_alias(ws, "kept", "best", 1)
    filing.tag(ws, "kept", "a", "1", version=1)
    before = ws.ledger.head()
    filing.point_alias(ws, "kept", "best", 1)
    filing.tag(ws, "kept", "a", "1", version=1)
    filing.untag(ws, "kept", "nothing")
    filing.remove_alias(ws, "kept", "nothing")
    filing.rename_model(ws, "kept", "kept")
    assert ws.ledger.head() == before


def test_removing_a_version_takes_its_aliases_and_archiving_moves_the_others(ws: Workspace) -> None:
    for _ in range(3):
        file(ws)
    filing.point_alias(ws, "kept", "best", 1)
    for number in (1, 2):
        filing.stage_version(ws, "kept", number, "Production")
    filing.stage_version(ws, "kept", 3, "Production", archive=True)
    filing.remove_version(ws, "kept", 1)
    with ws.ledger.read() as tx:
        [found] = records.named(tx, "kept")
        assert [each.stage for each in records.versions_of(tx, ["kept"])] == ["Archived", "Production"]
    assert found.aliases == {}
    assert difference(ws.ledger) == []


def test_show_and_list_tell_of_files(ws: Workspace) -> None:
    filing.file_model(ws, "blank")
    file(ws)
    listed = {each.model: each for each in versions.list_models(ws)}
    assert listed["blank"].newest is None
    assert listed["kept"].versions == 1
    shown = versions.show(ws, "kept:1")
    assert (shown.flavor, shown.version.source, shown.inputs) == ("files", "s3://b/m", ())


@pytest.mark.parametrize("name", ["team/churn", "team:churn", "me@team", "team:7", "a/b:c@d"])
def test_a_version_is_found_by_its_ref_whatever_its_models_name_has_in_it(ws: Workspace, name: str) -> None:
    filing.file_model(ws, name)
    for _ in range(2):
        filing.file_version(ws, name, Filed(source="s3://b/m", storage="s3://b/m"))
    filing.point_alias(ws, name, "champion", 1)
    for ref, number in ((f"{name}:1", 1), (f"{name}@champion", 1), (name, 2), (f"models:/{name}/1", 1)):
        found = versions.show(ws, ref).version
        assert (found.model, found.version) == (name, number)
        assert versions.show(ws, found.ref).version == found


def test_a_version_of_a_model_comes_before_a_model_of_that_name(ws: Workspace) -> None:
    for name in ("churn", "churn:1"):
        filing.file_model(ws, name)
        filing.file_version(ws, name, Filed(source="s3://b/m", storage="s3://b/m"))
    assert versions.show(ws, "churn:1").version.model == "churn"
    assert versions.show(ws, "churn:1:1").version.model == "churn:1"
