"""The requests about registered models, versions and logged models that both servers get, after those of runs.

As in `mlflow_requests`: `{name}` stands for an id that the answer to the request of that name gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["MODEL_LEAKS", "MODEL_REQUESTS", "MODEL_STRICTER"]

Request = tuple[str, str, str, Any]
T = 1_700_000_000_000
MODEL_STRICTER = frozenset[str]()
"""What is refused here where the other server takes it."""
MODEL_LEAKS = frozenset({"model again", "model renamed to taken", "version 28", "logged params again"})
"""Where the other server's message is that of its database or of its code: only the status is compared."""


def _models() -> Iterator[Request]:
    tags = [{"key": "team", "value": "red"}, {"key": "team", "value": "blue"}, {"key": "x", "value": "1"}]
    yield "model fraud", "POST", "registered-models/create", {"name": "fraud", "tags": tags, "description": "finds it"}
    yield "model churn", "POST", "registered-models/create", {"name": "churn"}
    yield "model third", "POST", "registered-models/create", {"name": "third % _ ünï @ 5"}
    yield "model again", "POST", "registered-models/create", {"name": "fraud"}
    for place, body in enumerate(
        (
            {},
            {"name": ""},
            {"name": "  "},
            {"name": None},
            {"name": 5},
            {"name": "a/b"},
            {"name": "a:b"},
            {"name": ".."},
            {"name": "ok", "tags": "no"},
            {"name": "ok", "tags": [{"key": "k?", "value": "v"}]},
            {"name": "ok", "tags": [{"key": "k" * 251, "value": "v"}]},
            {"name": "ok", "tags": [{"key": "k", "value": "v" * 100_001}]},
            {"name": "ok", "description": 4},
            {"name": "with blank", "tags": [{"key": "k"}], "else": 1},
        )
    ):
        yield f"model {place}", "POST", "registered-models/create", body
    for query in ("?name=fraud", "?name=churn", "?name=nobody", "?name=", "", "?name=a/b", "?name=third % _ ünï @ 5"):
        yield f"model get {query}", "GET", f"registered-models/get{query.replace('%', '%25')}", None
    yield "model update", "PATCH", "registered-models/update", {"name": "churn", "description": "who leaves"}
    yield "model update none", "PATCH", "registered-models/update", {"name": "churn"}
    yield "model update nobody", "PATCH", "registered-models/update", {"name": "nobody", "description": "d"}
    yield "model update no name", "PATCH", "registered-models/update", {"description": "d"}
    yield "model update number", "PATCH", "registered-models/update", {"name": "churn", "description": 5}
    for change in (
        {},
        {"value": "green"},
        {"value": None},
        {"key": ""},
        {"key": "what?"},
        {"key": "k" * 251},
        {"value": "v" * 100_001},
        {"name": "nobody"},
        {"name": ""},
        {"key": 5},
    ):
        body = {"name": "churn", "key": "team", "value": "red", **change}
        yield f"model tag {str(change)[:40]}", "POST", "registered-models/set-tag", body
    yield "model untag", "DELETE", "registered-models/delete-tag", {"name": "fraud", "key": "x"}
    yield "model untag again", "DELETE", "registered-models/delete-tag", {"name": "fraud", "key": "x"}
    yield "model untag nobody", "DELETE", "registered-models/delete-tag", {"name": "nobody", "key": "x"}
    yield "model untag no key", "DELETE", "registered-models/delete-tag", {"name": "fraud"}
    yield "model rename", "POST", "registered-models/rename", {"name": "with blank", "new_name": "renamed"}
    yield "model renamed", "GET", "registered-models/get?name=renamed", None
    yield "model before", "GET", "registered-models/get?name=with blank", None
    yield "model renamed to taken", "POST", "registered-models/rename", {"name": "renamed", "new_name": "fraud"}
    for body in ({"name": "renamed"}, {"name": "renamed", "new_name": " "}, {"name": "renamed", "new_name": "a/b"}):
        yield f"model rename {body}", "POST", "registered-models/rename", body
    yield "model rename nobody", "POST", "registered-models/rename", {"name": "nobody", "new_name": "z"}


def _versions() -> Iterator[Request]:
    here = {"name": "fraud", "source": "mlflow-artifacts:/{e1}/{r1}/artifacts/model", "run_id": "{r1}"}
    yield "v1", "POST", "model-versions/create", {**here, "tags": [{"key": "a", "value": "1"}], "description": "one"}
    yield "v2", "POST", "model-versions/create", {**here, "source": "runs:/{r1}/model", "run_link": "http://x"}
    yield "v3", "POST", "model-versions/create", {"name": "fraud", "source": "s3://bucket/models/one"}
    yield "v4", "POST", "model-versions/create", {"name": "churn", "source": "s3://bucket/models/two", "run_id": "{r2}"}
    yield "v5", "POST", "model-versions/create", {"name": "churn", "source": "models:/fraud/1"}
    for place, change in enumerate(
        (
            {"name": "nobody"},
            {"name": ""},
            {"name": 5},
            {"source": ""},
            {"source": None},
            {"source": "/etc/passwd"},
            {"source": "/etc/passwd", "run_id": None},
            {"source": "file:///etc/passwd"},
            {"source": "file:///etc", "run_id": "nobody"},
            {"source": "mlflow-artifacts:/{e1}/{r2}/artifacts/model"},
            {"source": "mlflow-artifacts:/{e1}/{r1}/artifacts/../../x"},
            {"source": "mlflow-artifacts:/{e1}/{r1}/artifacts/%2e%2e/%2e%2e/x"},
            {"source": "mlflow-artifacts:/{e1}/{r1}/artifacts", "run_id": "nobody"},
            {"source": "mlflow-artifacts:/{e1}/{r1}/artifacts", "run_id": None},
            {"source": "mlflow-artifacts://else/1/{r1}/artifacts"},
            {"source": "http://else/model"},
            {"source": "ftp://else/model"},
            {"source": "s3://bucket/../model"},
            {"source": "runs:/{r2}/model"},
            {"source": "runs:/{r1}/model", "run_id": None},
            {"source": "runs://x/{r1}/model"},
            {"source": "models:/nobody/1"},
            {"source": "models:/fraud/99"},
            {"source": "models:/fraud/1", "run_id": "{r2}"},
            {"source": "models:/fraud@nothing"},
            {"source": "models:/m-unknown"},
            {"source": "models:/fraud/1/2"},
            {"source": "models:fraud"},
            {"source": "dummy-source"},
            {"model_id": "m-unknown"},
            {"source": "s3://b/m", "tags": [{"key": "?", "value": "1"}]},
            {"source": "s3://b/m", "tags": "x"},
            {"source": "s3://b/m", "description": 1},
        )
    ):
        body = {key: value for key, value in {**here, **change}.items() if value is not None}
        yield f"version {place}", "POST", "model-versions/create", body
    for query in (
        "name=fraud&version=1",
        "name=fraud&version=2",
        "name=churn&version=2",
        "name=fraud&version=99",
        "name=fraud&version=0",
        "name=fraud&version=-1",
        "name=fraud&version=x",
        "name=fraud&version=",
        "name=fraud",
        "name=nobody&version=1",
        "version=1",
        "name=a/b&version=1",
    ):
        yield f"version get {query}", "GET", f"model-versions/get?{query}", None
        yield f"version uri {query}", "GET", f"model-versions/get-download-uri?{query}", None
    one = {"name": "fraud", "version": "1"}
    yield "version update", "PATCH", "model-versions/update", {**one, "description": "better"}
    yield "version update none", "PATCH", "model-versions/update", {"name": "fraud", "version": "2"}
    yield "version update number", "PATCH", "model-versions/update", {"name": "fraud", "version": 1}
    yield "version update nobody", "PATCH", "model-versions/update", {"name": "fraud", "version": "77"}
    for change in (
        {},
        {"value": "2"},
        {"key": "b", "value": ""},
        {"key": "c", "value": None},
        {"key": "?"},
        {"key": ""},
        {"version": "77"},
        {"version": "x"},
        {"name": "nobody"},
        {"value": "v" * 100_001},
    ):
        body = {**one, "key": "a", "value": "1", **change}
        yield f"version tag {str(change)[:40]}", "POST", "model-versions/set-tag", body
    yield "version untag", "DELETE", "model-versions/delete-tag", {**one, "key": "b"}
    yield "version untag again", "DELETE", "model-versions/delete-tag", {**one, "key": "b"}
    yield "version untag nobody", "DELETE", "model-versions/delete-tag", {"name": "fraud", "version": "77", "key": "b"}
    yield "version untag no key", "DELETE", "model-versions/delete-tag", one
    yield "version tagged", "GET", "model-versions/get?name=fraud&version=1", None
    yield "model with versions", "GET", "registered-models/get?name=fraud", None


def _aliases() -> Iterator[Request]:
    champion = {"name": "fraud", "alias": "champion", "version": "1"}
    for change in (
        {},
        {},
        {"version": "2"},
        {"alias": "other"},
        {"alias": "Champion"},
        {"alias": "latest"},
        {"alias": "LATEST"},
        {"alias": "v1"},
        {"alias": "V12"},
        {"alias": "v1x"},
        {"alias": "a b"},
        {"alias": "a.b"},
        {"alias": "ünï"},
        {"alias": "a" * 256},
        {"alias": "7"},
        {"alias": ""},
        {"version": "99"},
        {"version": "x"},
        {"version": ""},
        {"version": 1},
        {"name": "nobody"},
    ):
        yield f"alias {str(change)[:40]}", "POST", "registered-models/alias", {**champion, **change}
    for alias in ("champion", "Champion", "other", "nothing", "latest", "LATEST", "", "a b"):
        yield f"alias get {alias}", "GET", f"registered-models/alias?name=fraud&alias={alias}", None
    yield "alias get nobody", "GET", "registered-models/alias?name=nobody&alias=champion", None
    yield "alias get latest of none", "GET", "registered-models/alias?name=renamed&alias=latest", None
    yield "alias shown", "GET", "registered-models/get?name=fraud", None
    yield "alias of version", "GET", "model-versions/get?name=fraud&version=1", None
    yield "version by alias", "POST", "model-versions/create", {"name": "renamed", "source": "models:/fraud@champion"}
    yield "version by latest", "POST", "model-versions/create", {"name": "renamed", "source": "models:/fraud/latest"}
    yield "alias delete", "DELETE", "registered-models/alias", {"name": "fraud", "alias": "other"}
    yield "alias delete again", "DELETE", "registered-models/alias", {"name": "fraud", "alias": "other"}
    yield "alias delete nobody", "DELETE", "registered-models/alias", {"name": "nobody", "alias": "other"}
    yield "alias delete bad", "DELETE", "registered-models/alias", {"name": "fraud", "alias": "a b"}


def _stages() -> Iterator[Request]:
    for version, stage, archive in (
        ("1", "Staging", False),
        ("2", "production", False),
        ("3", "PRODUCTION", False),
        ("1", "Production", True),
        ("2", "None", False),
        ("1", "nowhere", False),
        ("1", "", False),
        ("1", "Archived", True),
        ("99", "Staging", False),
        ("x", "Staging", False),
    ):
        body = {"name": "fraud", "version": version, "stage": stage, "archive_existing_versions": archive}
        yield f"stage {version} {stage} {archive}", "POST", "model-versions/transition-stage", body
    body = {"name": "fraud", "version": "1", "stage": "Staging", "archive_existing_versions": "yes"}
    yield "stage yes", "POST", "model-versions/transition-stage", body
    for body in (
        {"name": "fraud"},
        {"name": "fraud", "stages": ["Production"]},
        {"name": "fraud", "stages": ["production", "None"]},
        {"name": "fraud", "stages": []},
        {"name": "fraud", "stages": ["nowhere"]},
        {"name": "fraud", "stages": "Production"},
        {"name": "fraud", "stages": [5]},
        {"name": "nobody"},
        {},
    ):
        yield f"latest {body}", "POST", "registered-models/get-latest-versions", body
    yield "latest by get", "GET", "registered-models/get-latest-versions?name=fraud&stages=Archived", None
    yield "source by stage", "POST", "model-versions/create", {"name": "churn", "source": "models:/fraud/Production"}
    yield "staged", "GET", "registered-models/get?name=fraud", None


def _registry_searches() -> Iterator[Request]:
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    yield "prompt", "POST", "registered-models/create", {"name": "greeting", "tags": prompt}
    text = [*prompt, {"key": "mlflow.prompt.text", "value": "Hello {{x}}"}]
    yield (
        "prompt version",
        "POST",
        "model-versions/create",
        {"name": "greeting", "source": "dummy-source", "tags": text},
    )
    yield "prompt elsewhere", "POST", "model-versions/create", {"name": "greeting", "source": "s3://b/x", "tags": text}
    yield "prompt as source", "POST", "model-versions/create", {"name": "churn", "source": "models:/greeting/1"}
    for query in (
        "",
        "max_results=2",
        "max_results=2&page_token=eyJvZmZzZXQiOiAyfQ==",
        "max_results=0",
        "max_results=1000",
        "max_results=1001",
        "max_results=x",
        "page_token=zz",
        "order_by=name DESC",
        "order_by=name ASC",
        "order_by=colour",
        "order_by=creation_timestamp",
        "order_by=name sideways",
        "order_by=a b c",
        "order_by=name&order_by=name DESC",
    ):
        yield f"models {query}", "GET", f"registered-models/search?{query}", None
    for text in (
        "name = 'fraud'",
        "name != 'fraud'",
        "name LIKE 'f%'",
        "name ilike 'F%'",
        "name LIKE 'F%'",
        "attribute.name = 'fraud'",
        "name IN ('fraud', 'churn')",
        "name NOT IN ('fraud', 'churn')",
        "name > 'a'",
        "name = 5",
        "name = fraud",
        'name = "fraud"',
        "tags.team = 'blue'",
        "tag.team = 'red'",
        "tags.team != 'blue'",
        "tags.team LIKE '%e%' AND name = 'fraud'",
        "tags.`team` = 'blue'",
        "tags.team > 'a'",
        "tags.team = 5",
        "tags.mlflow.prompt.is_prompt = 'true'",
        "tags.`mlflow.prompt.is_prompt` = 'true'",
        "tags.`mlflow.prompt.is_prompt` != 'true'",
        "tags.`mlflow.prompt.is_prompt` = 'false'",
        "version_number = 1",
        "colour = 'x'",
        "metrics.a > 1",
        "nonsense",
        "name = 'fraud' OR name = 'churn'",
        "name = 'fraud' AND",
    ):
        yield f"models where {text}", "GET", f"registered-models/search?filter={text.replace('%', '%25')}", None
    for query in (
        "order_by=version_number",
        "order_by=name&order_by=version_number DESC",
        "order_by=name&max_results=3",
        "order_by=name&max_results=3&page_token=eyJvZmZzZXQiOiAzfQ==",
        "max_results=0",
        "max_results=-1",
        "max_results=200001",
        "max_results=x",
        "page_token=zz",
        "order_by=colour",
        "order_by=run_id",
        "order_by=tags.a",
        "order_by=metrics.a",
        "order_by=name&order_by=name",
    ):
        yield f"versions {query}", "GET", f"model-versions/search?{query}", None
    for text in (
        "name = 'fraud'",
        "name = 'nobody'",
        "name='fraud' AND run_id='{r1}'",
        "run_id = '{r1}'",
        "run_id IN ('{r1}', '{r2}')",
        "name IN ('fraud')",
        "source_path = 's3://bucket/models/one'",
        "source_path LIKE 's3%'",
        "source_path IN ('a')",
        "version_number = 1",
        "version_number > 1 and name = 'fraud'",
        "version_number = '2'",
        "version_number = 'x'",
        "version_number = 1.5",
        "version_number LIKE '1'",
        "version_number IN ('1')",
        "name = 1",
        "tags.a = '2'",
        "tags.a != '2'",
        "tags.a > '2'",
        "tags.`mlflow.prompt.is_prompt` = 'true'",
        "creation_timestamp > 5",
        "current_stage = 'Production'",
        "attribute.name = 'fraud'",
        "params.a = 'x'",
        "nonsense",
    ):
        where = text.replace("%", "%25")
        yield f"versions where {text}", "GET", f"model-versions/search?order_by=name&filter={where}", None


def _removals() -> Iterator[Request]:
    yield "version delete", "DELETE", "model-versions/delete", {"name": "fraud", "version": "2"}
    yield "version delete again", "DELETE", "model-versions/delete", {"name": "fraud", "version": "2"}
    yield "version delete x", "DELETE", "model-versions/delete", {"name": "fraud", "version": "x"}
    yield "version delete nobody", "DELETE", "model-versions/delete", {"name": "nobody", "version": "1"}
    yield "version deleted", "GET", "model-versions/get?name=fraud&version=2", None
    yield "alias of deleted", "GET", "registered-models/alias?name=fraud&alias=champion", None
    yield "version delete newest", "DELETE", "model-versions/delete", {"name": "fraud", "version": "3"}
    yield "number is not given again", "POST", "model-versions/create", {"name": "fraud", "source": "s3://b/four"}
    yield "model after", "GET", "registered-models/get?name=fraud", None
    yield "model moved", "POST", "registered-models/rename", {"name": "fraud", "new_name": "fraud 2"}
    yield "version moved", "GET", "model-versions/get?name=fraud 2&version=1", None
    yield "version gone", "GET", "model-versions/get?name=fraud&version=1", None
    yield "model delete", "DELETE", "registered-models/delete", {"name": "fraud 2"}
    yield "model delete again", "DELETE", "registered-models/delete", {"name": "fraud 2"}
    yield "model delete no name", "DELETE", "registered-models/delete", {}
    yield "model anew", "POST", "registered-models/create", {"name": "fraud 2"}
    yield "version anew", "POST", "model-versions/create", {"name": "fraud 2", "source": "s3://b/anew"}
    yield "tags anew", "GET", "registered-models/get?name=fraud 2", None


def _logged() -> Iterator[Request]:
    params, tags = [{"key": "lr", "value": "0.1"}], [{"key": "t", "value": "1"}]
    first = {"experiment_id": "{e1}", "name": "first", "model_type": "sk", "source_run_id": "{r1}"}
    yield "m1", "POST", "logged-models", {**first, "params": params, "tags": tags}
    yield "m2", "POST", "logged-models", {"experiment_id": "{e1}", "name": "second"}
    yield "m3", "POST", "logged-models", {"experiment_id": "{e2}", "name": "third ünï", "source_run_id": "{r2}"}
    for place, body in enumerate(
        (
            {},
            {"experiment_id": ""},
            {"experiment_id": "9999"},
            {"experiment_id": "x"},
            {"experiment_id": 5},
            {"experiment_id": "{e1}", "name": "a/b"},
            {"experiment_id": "{e1}", "name": "a.b"},
            {"experiment_id": "{e1}", "name": "a'b"},
            {"experiment_id": "{e1}", "name": 4},
            {"experiment_id": "{e1}", "params": "x"},
            {"experiment_id": "{e1}", "tags": {}},
        )
    ):
        yield f"logged {place}", "POST", "logged-models", body
    for model in ("{m1}", "{m2}", "m-nobody"):
        yield f"logged get {model}", "GET", f"logged-models/{model}", None
    for place, body in enumerate(
        (
            {"model_id": "{m1}", "status": 2},
            {"model_id": "{m1}", "status": "LOGGED_MODEL_READY"},
            {"model_id": "{m1}"},
            {"status": 2},
            {"model_id": "{m1}", "status": "x"},
            {"model_id": "{m1}", "status": 9},
            {"model_id": "{m1}", "status": []},
        )
    ):
        yield f"logged end {place}", "PATCH", "logged-models/{m1}", body
    yield "logged end nobody", "PATCH", "logged-models/m-nobody", {"model_id": "m-nobody", "status": 2}
    yield (
        "logged end failed",
        "PATCH",
        "logged-models/{m2}",
        {"model_id": "{m2}", "status": "LOGGED_MODEL_UPLOAD_FAILED"},
    )
    yield (
        "logged tag",
        "PATCH",
        "logged-models/{m1}/tags",
        {"tags": [{"key": "t", "value": "2"}, {"key": "u", "value": "3"}]},
    )
    yield "logged tag none", "PATCH", "logged-models/{m1}/tags", {}
    yield "logged tag text", "PATCH", "logged-models/{m1}/tags", {"tags": "x"}
    yield "logged tag nobody", "PATCH", "logged-models/m-nobody/tags", {"tags": tags}
    yield "logged untag", "DELETE", "logged-models/{m1}/tags/u", None
    yield "logged untag again", "DELETE", "logged-models/{m1}/tags/u", None
    yield "logged untag nobody", "DELETE", "logged-models/m-nobody/tags/u", None
    more = {"model_id": "{m1}", "params": [{"key": "depth", "value": "3"}]}
    yield "logged params", "POST", "logged-models/{m1}/params", more
    yield "logged params again", "POST", "logged-models/{m1}/params", more
    yield "logged params no id", "POST", "logged-models/{m1}/params", {"params": []}
    yield "logged params nobody", "POST", "logged-models/m-nobody/params", {"model_id": "m-nobody", "params": params}
    point = {"run_id": "{r2}", "key": "acc", "value": 0.5, "timestamp": T, "step": 1, "model_id": "{m1}"}
    yield "logged metric", "POST", "runs/log-metric", point
    yield "logged metric again", "POST", "runs/log-metric", point
    yield "logged metric later", "POST", "runs/log-metric", {**point, "step": 2, "value": 0.75}
    data = {"dataset_name": "rows", "dataset_digest": "d1"}
    batch = [
        {"key": "loss", "value": 2.5, "timestamp": T, "step": 0, "model_id": "{m2}", **data},
        {"key": "acc", "value": 0.25, "timestamp": T, "step": 0, "model_id": "{m2}"},
        {"key": "other", "value": 1, "timestamp": T, "step": 0},
    ]
    yield "logged batch", "POST", "runs/log-batch", {"run_id": "{r2}", "metrics": batch}
    yield "logged measured", "GET", "logged-models/{m1}", None
    yield "logged measured 2", "GET", "logged-models/{m2}", None
    for query in ("", "?artifact_directory_path=x", "?artifact_directory_path=../x"):
        yield f"logged files {query}", "GET", f"logged-models/{{m1}}/artifacts/directories{query}", None
    yield "logged files nobody", "GET", "logged-models/m-nobody/artifacts/directories", None


def _logged_searches() -> Iterator[Request]:
    both = ["{e1}", "{e2}"]
    by_name = [{"field_name": "name"}]
    for place, body in enumerate(
        (
            {},
            {"experiment_ids": []},
            {"experiment_ids": ["9999"]},
            {"experiment_ids": ["x"]},
            {"experiment_ids": "x"},
            {"experiment_ids": both, "order_by": by_name},
            {"experiment_ids": both, "order_by": [{"field_name": "name", "ascending": False}]},
            {"experiment_ids": both, "order_by": [{"field_name": "metrics.acc"}, *by_name]},
            {"experiment_ids": both, "order_by": [{"field_name": "metrics.acc", "ascending": False}, *by_name]},
            {"experiment_ids": both, "order_by": [{"field_name": "metrics.loss", **_ROWS}, *by_name]},
            {"experiment_ids": both, "order_by": [{"field_name": "params.lr"}]},
            {"experiment_ids": both, "order_by": [{"field_name": "colour"}]},
            {"experiment_ids": both, "order_by": "name"},
            {"experiment_ids": both, "order_by": by_name, "max_results": 2},
            {"experiment_ids": both, "order_by": by_name, "max_results": "x"},
            {"experiment_ids": both, "datasets": [_ROWS], "order_by": by_name},
            {"experiment_ids": both, "datasets": [{"dataset_digest": "d1"}]},
            {"experiment_ids": both, "datasets": [{"dataset_name": "other"}]},
            {"experiment_ids": both, "page_token": "e30="},
            {"experiment_ids": both, "page_token": "bm90IGpzb24="},
        )
    ):
        yield f"logged models {place}", "POST", "logged-models/search", body
    for text in (
        "name = 'first'",
        "name != 'first'",
        "name LIKE '%s%'",
        "name ILIKE 'FIRST'",
        "name IN ('first', 'second')",
        "name NOT IN ('first')",
        "name > 'a'",
        "attributes.name = 'first'",
        "model_type = 'sk'",
        "source_run_id = '{r1}'",
        "model_id = '{m1}'",
        "creation_timestamp > 5",
        "creation_time < 5",
        "creation_timestamp LIKE '5'",
        "metrics.acc > 0.6",
        "metrics.acc < 0.6",
        "metrics.acc > 0.2 AND params.lr = '0.1'",
        "metrics.acc LIKE 'x'",
        "params.lr = '0.1'",
        "params.lr LIKE '0%'",
        "params.lr > '0'",
        "tags.t = '2'",
        "tags.t != '2'",
        "tag.t = '2'",
        "nonsense",
        "name = 'first' OR name = 'second'",
    ):
        body = {"experiment_ids": both, "filter": text, "order_by": by_name}
        yield f"logged models where {text}", "POST", "logged-models/search", body


_ROWS = {"dataset_name": "rows", "dataset_digest": "d1"}


def _logged_versions() -> Iterator[Request]:
    yield "model of logged", "POST", "registered-models/create", {"name": "logged"}
    inside = {"name": "logged", "source": "mlflow-artifacts:/{e1}/models/{m1}/artifacts", "model_id": "{m1}"}
    yield "version of logged", "POST", "model-versions/create", {**inside, "run_id": "{r1}"}
    yield "version deep in logged", "POST", "model-versions/create", {**inside, "source": inside["source"] + "/deep"}
    yield "version of another", "POST", "model-versions/create", {**inside, "model_id": "{m2}"}
    yield "version of nobody", "POST", "model-versions/create", {**inside, "model_id": "m-nobody"}
    yield "version of no model", "POST", "model-versions/create", {**inside, "model_id": ""}
    yield "version by another id", "POST", "model-versions/create", {**inside, "source": "models:/{m2}"}
    yield "version of logged by runs", "POST", "model-versions/create", {**inside, "source": "runs:/{r1}/model"}
    yield "version of local", "POST", "model-versions/create", {**inside, "source": "/etc"}
    yield "logged is a version", "GET", "logged-models/{m1}", None
    yield "logged delete", "DELETE", "logged-models/{m2}", None
    yield "logged delete again", "DELETE", "logged-models/{m2}", None
    yield "logged delete nobody", "DELETE", "logged-models/m-nobody", None
    yield "logged deleted", "GET", "logged-models/{m2}", None
    yield "logged deleted allowed", "GET", "logged-models/{m2}?allow_deleted=true", None
    yield (
        "logged left",
        "POST",
        "logged-models/search",
        {"experiment_ids": ["{e1}"], "order_by": [{"field_name": "name"}]},
    )


MODEL_REQUESTS: list[Request] = [
    *_models(),
    *_versions(),
    *_aliases(),
    *_stages(),
    *_registry_searches(),
    *_removals(),
    *_logged(),
    *_logged_searches(),
    *_logged_versions(),
]
