"""How other tools name versions, and what their clients call rows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from noria.config import parse_project
from noria.core.errors import ConfigError, NotFound, UsageError
from noria.loop.judging import _frame_id, toml_key
from noria.registry.versions import parse_ref, plain_ref, resolve
from noria.store.workspace import Workspace


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("models:/churn/14", ("churn", "14")),
        ("models:/churn@champion", ("churn", "champion")),
        ("models:/two words/1", ("two words", "1")),
        ("models:/churn/latest", ("churn", "")),
        ("churn:14", ("churn", "14")),
        ("churn", ("churn", "")),
        ("models:/team/churn/2", ("team/churn", "2")),
        ("models:/team/churn@champion", ("team/churn", "champion")),
        ("team/churn:2", ("team/churn", "2")),
        ("team:churn:2", ("team:churn", "2")),
        ("team:churn@champion", ("team:churn", "champion")),
        ("me@team:2", ("me@team", "2")),
    ],
)
def test_a_ref_of_another_tool_means_a_version(given: str, meant: tuple[str, str]) -> None:
    assert parse_ref(given) == meant


@pytest.mark.parametrize(
    "given", ["models:/m-0123", "models:/churn/Production", "models:/", "models:/@x", "models:/a/b@", "models:churn"]
)
def test_a_ref_that_names_no_version_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        plain_ref(given)


def test_rows_are_called_what_mlflow_calls_them() -> None:
    """The digests are those of mlflow.data.from_pandas of MLflow 3.17.2."""
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2.0], "c": ["x", "y", "z"], "d": [True, False, True]})
    assert _frame_id(frame) == "2136fe0e"
    assert _frame_id(frame.assign(c=["x", None, "z"])) == "c2392778"


@pytest.mark.parametrize(("key", "value"), [("trust", "all"), ("task", "multiclass"), ("holdouts", "held")])
def test_a_setting_of_clients_that_is_none_is_refused(key: str, value: str) -> None:
    document = {"project": {"name": "p"}, "model": {"m": {"clients": {key: value}}}}
    with pytest.raises(ConfigError):
        parse_project(document, root=Path("/p"), environment={})


@pytest.mark.parametrize("name", ["churn", "a b", "größe", 'a"b', "a\\b", "a'b", "v1.2"])
def test_a_table_that_a_hint_names_can_be_written_as_it_stands(name: str) -> None:
    assert tomllib.loads(f"[model.{toml_key(name)}.clients]") == {"model": {name: {"clients": {}}}}


@pytest.mark.parametrize("ref", ["m:0", "m:00", "models:/m/0"])
def test_version_0_is_none_and_never_the_newest(ws: Workspace, register: Any, ref: str) -> None:
    register("strong")
    with ws.ledger.read() as tx:
        assert (resolve(tx, "m").version, resolve(tx, "m:01").version) == (1, 1)
        with pytest.raises(NotFound, match="there is no version"):
            resolve(tx, ref)


def test_an_unknown_model_is_told_with_the_nearest(ws: Workspace, register: Any) -> None:
    register("strong")
    with ws.ledger.read() as tx, pytest.raises(NotFound) as refused:
        resolve(tx, "M:1")
    assert refused.value.hint == "did you mean 'm'?"
