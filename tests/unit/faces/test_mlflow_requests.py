"""MLflow's requests and filters as values. That the words are MLflow's is shown beside its own server (peers)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from noria.faces.protocols.mlflow.artifacts import Owner, named
from noria.faces.protocols.mlflow.filters import EXPERIMENTS, RUNS, Comparison, parse_filter, parse_order
from noria.faces.protocols.mlflow.messages import BOOL, DOUBLE, INT, TEXT, Enum, Message, Repeated, Spec, read
from noria.faces.protocols.mlflow.points import _buckets
from noria.faces.protocols.mlflow.refusals import Refused
from noria.faces.protocols.mlflow.shapes import offset_of, page_token, point_json

SPEC = Spec(
    {
        "run_id": TEXT,
        "run_uuid": TEXT,
        "value": DOUBLE,
        "step": INT,
        "is_new": BOOL,
        "status": Enum({"RUNNING": 1, "FINISHED": 3}),
        "tags": Repeated(Message({"key": TEXT})),
    },
    {"run_id": ("required", "text"), "step": ("int",)},
)


def body(text: str, spec: Spec = SPEC) -> dict[str, Any]:
    return read(spec, "POST", [], "application/json", text.encode())


def test_numbers_come_as_numbers_or_as_texts() -> None:
    found = body('{"run_id": "r", "value": "NaN", "step": "12", "tags": [{"key": "k", "other": 1}], "more": 1}')
    assert math.isnan(found.pop("value"))
    assert found == {"run_id": "r", "step": 12, "tags": [{"key": "k"}]}
    assert body('{"run_id": "r", "value": "-Infinity", "step": 3.0}') == {"run_id": "r", "value": -math.inf, "step": 3}


def test_fields_have_two_spellings_and_a_request_uses_one() -> None:
    assert body('{"run_id": "r", "isNew": true}') == {"run_id": "r", "is_new": True}
    with pytest.raises(Refused, match="specifies both 'is_new' and 'isNew'"):
        body('{"run_id": "r", "isNew": true, "is_new": true}')


def test_words_of_an_enum_are_words_or_numbers() -> None:
    assert body('{"run_id": "r", "status": "FINISHED"}')["status"] == "FINISHED"
    assert body('{"run_id": "r", "status": 3}')["status"] == "FINISHED"
    assert "status" not in body('{"run_id": "r", "status": "NOBODY KNOWS"}')


def test_what_is_missing_or_of_another_type_isnamed() -> None:
    with pytest.raises(Refused, match="Missing value for required parameter 'run_id'"):
        body("{}")
    with pytest.raises(
        Refused, match="Invalid value 5 for parameter 'run_id' supplied:  Hint: Value was of type 'int'"
    ):
        body('{"run_id": 5}')
    assert body('{"run_uuid": "r"}') == {"run_uuid": "r"}


def test_a_strict_request_takes_no_half_of_itself() -> None:
    text = '{"run_id": "r", "value": "x"}'
    assert body(text) == {"run_id": "r"}
    with pytest.raises(Refused, match="does not fit its field"):
        body(text, Spec(SPEC.fields, SPEC.checks, is_strict=True))


def test_a_query_is_a_request_too() -> None:
    query = [("run_id", "r"), ("step", "4"), ("is_new", "True"), ("run_id", "other")]
    assert read(SPEC, "GET", query, "", b"") == {"run_id": "r", "step": 4, "is_new": True}


@pytest.mark.parametrize("text", ['{"run_id": "\\u0000"}', '{"run_id": "\\ud800"}', "[" * 100, "[]", "5"])
def test_what_nobody_can_mean_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        body(text)
    assert caught.value.status == 400


def test_a_filter_is_its_comparisons() -> None:
    text = (
        "metrics.`a b` >= 1e3 and params.\"x\" = 'it' AND tag.t.u LIKE '%_' and run_id IN ('a', \"b\") AND created < 5"
    )
    assert parse_filter(RUNS, text) == [
        Comparison("metric", "a b", ">=", 1000.0),
        Comparison("parameter", "x", "=", "it"),
        Comparison("tag", "t.u", "LIKE", "%_"),
        Comparison("attribute", "run_id", "IN", ("a", "b")),
        Comparison("attribute", "start_time", "<", 5.0),
    ]
    assert parse_filter(EXPERIMENTS, "tags.a IS NULL") == [Comparison("tag", "a", "IS NULL")]


def test_an_order_is_a_key_and_a_direction() -> None:
    assert parse_order(RUNS, "metrics.`a b` DESC") == ("metric", "a b", True)
    assert parse_order(RUNS, "start_time") == ("attribute", "start_time", False)


@pytest.mark.parametrize(("total", "limit"), [(0, 3), (2, 3), (3, 3), (7, 3), (1000, 320), (5, 1)])
def test_a_sample_has_the_ends_and_no_more_than_its_limit(total: int, limit: int) -> None:
    places = _buckets(total, limit).tolist()
    assert len(places) == min(total, limit)
    assert places == sorted(set(places))
    if total:
        assert places[-1] == total - 1
        assert limit == 1 or places[0] == 0


def test_a_page_token_is_where_the_page_begins() -> None:
    assert offset_of(page_token(70)) == 70
    assert offset_of("") == 0


def test_what_json_lacks_is_said_otherwise() -> None:
    assert point_json("a", math.nan, 1, 2)["value"] == "NaN"
    assert point_json("a", -math.inf, 1, 2)["value"] == -1.7976931348623157e308


def test_a_path_names_a_run_and_an_artifact_and_no_place() -> None:
    assert named("1/run_1/artifacts/a/b c.txt") == (Owner("run_1"), "a/b c.txt")
    assert named("else/where/run_1/artifacts") == (Owner("run_1"), "")
    assert named("1/models/m-1/artifacts/MLmodel") == (Owner("m-1", is_model=True), "MLmodel")
    assert named("1/models/run_1/artifacts/a") == (Owner("run_1"), "a")
    assert named("1/models/m") == (Owner(""), "")
    for path in (
        "../x",
        "/etc/passwd",
        "1/r/artifacts/../../x",
        "1/r/artifacts/a\\b",
        "a//b",
        "1/r/artifacts/a\x00",
        "a#b",
    ):
        with pytest.raises(Refused, match="Invalid path"):
            named(path)
