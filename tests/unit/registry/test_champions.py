"""Aliases that mean "this is the one" go only to a version whose gates passed, whoever asks and however."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from noria.core.errors import GateClosed
from noria.registry import filing, records, release
from noria.registry.filing import Filed
from noria.store.workspace import Workspace

AUC = {"auc": {"min": 0.55, "champion": "not worse", "margin": 0.01}, "inputs": "any"}


def champion_of(ws: Workspace, alias: str = "champion") -> int:
    with ws.ledger.read() as tx:
        return records.aliases(tx, "m").get(alias, 0)


def test_a_version_that_passed_gets_the_alias_and_a_worse_one_is_refused_with_numbers(
    ws: Workspace, register: Any, judge: Any
) -> None:
    strong = register("strong").version
    judge(strong)
    filing.point_alias(ws, "m", "champion", strong)
    weak = register("weak").version
    judged = judge(weak, strong).judged
    assert not judged.passed
    before = ws.ledger.head()
    with pytest.raises(GateClosed) as refused:
        filing.point_alias(ws, "m", "champion", weak)
    closed = next(verdict for verdict in judged.verdicts if not verdict.passed)
    assert closed.text in str(refused.value)
    assert any(mark.isdigit() for mark in closed.text)
    assert (champion_of(ws), ws.ledger.head()) == (strong, before)


@pytest.mark.parametrize("alias", ["champion", "Champion", "production"])
def test_what_was_never_judged_is_refused_and_other_aliases_are_free(ws: Workspace, register: Any, alias: str) -> None:
    register("strong")
    kept = filing.file_version(ws, "m", Filed(source="s3://b/m", storage="s3://b/m"))
    for version in (1, kept):
        with pytest.raises(GateClosed, match="never judged"):
            filing.point_alias(ws, "m", alias, version)
        with pytest.raises(GateClosed, match="never judged"):
            filing.move_alias(ws, "m", alias, version)
        filing.point_alias(ws, "m", "candidate", version)
    assert champion_of(ws, alias) == 0


def test_a_stage_is_bound_as_the_alias_of_its_name(ws: Workspace, register: Any, judge: Any) -> None:
    register("strong")
    with pytest.raises(GateClosed):
        filing.stage_version(ws, "m", 1, "Production")
    filing.stage_version(ws, "m", 1, "Staging")
    judge(1)
    filing.stage_version(ws, "m", 1, "Production")


def test_a_verdict_under_other_rules_or_against_another_champion_is_none(
    ws: Workspace, register: Any, judge: Any, policy: Callable[..., Workspace]
) -> None:
    for model in ("weak", "strong"):
        register(model)
    judge(1)
    judge(2)
    filing.point_alias(ws, "m", "champion", 1)
    with pytest.raises(GateClosed, match=r"judged without a champion, and m@champion is version 1 now"):
        filing.point_alias(ws, "m", "champion", 2)
    judge(2, 1)
    with pytest.raises(GateClosed, match="other rules"):
        filing.point_alias(policy({**AUC, "level": 0.9}), "m", "champion", 2)
    filing.point_alias(ws, "m", "champion", 2)
    assert champion_of(ws) == 2


def test_approvals_are_asked_for_too(
    ws: Workspace, register: Any, judge: Any, policy: Callable[..., Workspace]
) -> None:
    register("strong")
    judge(1)
    asking = policy(AUC, {"approve": ["ml-lead"]})
    with pytest.raises(GateClosed, match="no release that could be approved as ml-lead"):
        filing.point_alias(asking, "m", "champion", 1)
    release.make(asking, "m", 1)
    with pytest.raises(GateClosed, match="waits for approval as ml-lead"):
        filing.point_alias(asking, "m", "champion", 1)


def test_a_model_does_not_bring_its_champion_along_under_a_name_with_rules(ws: Workspace) -> None:
    filing.file_model(ws, "free")
    filing.file_version(ws, "free", Filed(source="s3://b/m", storage="s3://b/m"))
    filing.point_alias(ws, "free", "champion", 1)
    with pytest.raises(GateClosed, match="take the alias away"):
        filing.rename_model(ws, "free", "m")
    filing.remove_alias(ws, "free", "champion")
    filing.rename_model(ws, "free", "m")


def test_a_champion_is_not_taken_away_so_that_the_next_version_meets_none(
    ws: Workspace, register: Any, judge: Any
) -> None:
    register("strong")
    judge(1)
    filing.point_alias(ws, "m", "champion", 1)
    filing.point_alias(ws, "m", "candidate", 1)
    with pytest.raises(GateClosed, match="m@champion stays"):
        filing.remove_alias(ws, "m", "champion")
    filing.remove_alias(ws, "m", "candidate")
    assert champion_of(ws) == 1


def test_files_of_a_client_that_are_champion_are_not_taken_away_either(
    ws: Workspace, policy: Callable[..., Workspace]
) -> None:
    free = policy({})
    filing.file_model(free, "m")
    kept = filing.file_version(free, "m", Filed(source="s3://b/m", storage="s3://b/m"))
    filing.point_alias(free, "m", "champion", kept)
    with pytest.raises(GateClosed, match="m@champion stays"):
        filing.remove_version(ws, "m", kept)
    with pytest.raises(GateClosed, match="m@champion stays"):
        filing.remove_model(ws, "m")
    with pytest.raises(GateClosed, match="m@champion stays"):
        filing.rename_model(ws, "m", "other")
    filing.remove_version(free, "m", kept)


def test_without_rules_an_alias_is_free(ws: Workspace, policy: Callable[..., Workspace]) -> None:
    free = policy({})
    filing.file_model(free, "m")
    filing.file_version(free, "m", Filed(source="s3://b/m", storage="s3://b/m"))
    filing.point_alias(free, "m", "champion", 1)
    assert champion_of(free) == 1
    filing.remove_alias(free, "m", "champion")
    assert champion_of(free) == 0
