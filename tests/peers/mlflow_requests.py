"""The requests that MLflow's server and Noria's both get, in this order: (name, method, endpoint, JSON or bytes).

`{name}` in a path or a text stands for an id that the answer to the request of that name gave. What is
no dict is sent as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["LEAKS", "REQUESTS", "STRICTER"]

Request = tuple[str, str, str, Any]
T = 1_700_000_000_000

STRICTER = frozenset({"half a time", "half a step", "large step", "text as value", "number as name"})
"""What is refused here; the other server logs a 0 in the place of a number that it could not read."""
LEAKS = frozenset(
    {
        "experiment again",
        "rename to taken",
        "run without experiment",
        "log-batch of a list",
    }
)
"""Where the other server's message is that of its database or of its code: only the status is compared."""


def _experiments() -> Iterator[Request]:
    yield "e1", "POST", "experiments/create", {"name": "first", "tags": [{"key": "team", "value": "red"}]}
    yield "e2", "POST", "experiments/create", {"name": "second", "artifact_location": "mlflow-artifacts:/elsewhere"}
    yield "e3", "POST", "experiments/create", {"name": "third % _ ünï"}
    yield "experiment again", "POST", "experiments/create", {"name": "first"}
    for place, body in enumerate(
        (
            {},
            {"name": ""},
            {"name": None},
            {"name": 5},
            {"name": ["a"]},
            {"name": {"a": 1}},
            {"name": "x" * 501},
            {"name": "ok1", "tags": "no"},
            {"name": "ok2", "tags": [{"key": "a/../b", "value": "v"}]},
            {"name": "ok3", "tags": [{"key": "a" * 251, "value": "v"}]},
            {"name": "ok4", "tags": [{"key": "k", "value": "v" * 20_001}]},
            {"name": "ok5", "artifact_location": 3},
            {"unknown": 1, "name": "with unknown"},
            {"name": "bad tag", "tags": [{"key": "what?", "value": "v"}]},
        )
    ):
        yield f"create {place}", "POST", "experiments/create", body
    for query in ("", "?experiment_id=", "?experiment_id={e1}", "?experiment_id=0", "?experiment_id=9999"):
        yield f"get{query}", "GET", f"experiments/get{query}", None
    for query in ("?experiment_id=abc", "?experiment_id=1.5", "?experiment_id={e1}&experiment_id={e2}", "?other=1"):
        yield f"get{query}", "GET", f"experiments/get{query}", None
    for query in (
        "",
        "?experiment_name=first",
        "?experiment_name=nobody",
        "?experiment_name=",
        "?experiment_name=Default",
    ):
        yield f"by name{query}", "GET", f"experiments/get-by-name{query}", None
    yield "tag", "POST", "experiments/set-experiment-tag", {"experiment_id": "{e1}", "key": "k", "value": "v"}
    yield "tag over", "POST", "experiments/set-experiment-tag", {"experiment_id": "{e1}", "key": "k", "value": "w"}
    yield "tag blank", "POST", "experiments/set-experiment-tag", {"experiment_id": "{e1}", "key": "empty"}
    yield "tag no key", "POST", "experiments/set-experiment-tag", {"experiment_id": "{e1}", "value": "w"}
    yield "tag nobody", "POST", "experiments/set-experiment-tag", {"experiment_id": "777", "key": "k", "value": "w"}
    yield "tag path", "POST", "experiments/set-experiment-tag", {"experiment_id": "{e1}", "key": "/k", "value": "w"}
    yield "untag", "POST", "experiments/delete-experiment-tag", {"experiment_id": "{e1}", "key": "k"}
    yield "untag again", "POST", "experiments/delete-experiment-tag", {"experiment_id": "{e1}", "key": "k"}
    yield "untag no key", "POST", "experiments/delete-experiment-tag", {"experiment_id": "{e1}"}
    yield "look", "GET", "experiments/get?experiment_id={e1}", None
    yield "rename", "POST", "experiments/update", {"experiment_id": "{e2}", "new_name": "renamed"}
    yield "rename to taken", "POST", "experiments/update", {"experiment_id": "{e2}", "new_name": "first"}
    yield "rename to nothing", "POST", "experiments/update", {"experiment_id": "{e2}", "new_name": ""}
    yield "rename nobody", "POST", "experiments/update", {"experiment_id": "4242", "new_name": "z"}
    yield "rename long", "POST", "experiments/update", {"experiment_id": "{e2}", "new_name": "n" * 501}
    yield "renamed", "GET", "experiments/get?experiment_id={e2}", None
    yield "delete", "POST", "experiments/delete", {"experiment_id": "{e3}"}
    yield "delete again", "POST", "experiments/delete", {"experiment_id": "{e3}"}
    yield "deleted", "GET", "experiments/get?experiment_id={e3}", None
    yield "tag deleted", "POST", "experiments/set-experiment-tag", {"experiment_id": "{e3}", "key": "k", "value": "v"}
    yield "run in deleted", "POST", "runs/create", {"experiment_id": "{e3}"}
    yield "restore", "POST", "experiments/restore", {"experiment_id": "{e3}"}
    yield "restore again", "POST", "experiments/restore", {"experiment_id": "{e3}"}
    yield "restore nobody", "POST", "experiments/restore", {"experiment_id": "555"}
    yield "restored", "GET", "experiments/get?experiment_id={e3}", None


def _experiment_searches() -> Iterator[Request]:
    for body in (
        {},
        {"max_results": 0},
        {"max_results": -3},
        {"max_results": 50_001},
        {"max_results": "x"},
        {"max_results": 10, "order_by": ["name ASC"]},
        {"max_results": 10, "order_by": ["experiment_id"]},
        {"max_results": 2, "order_by": ["name DESC"]},
        {"max_results": 2, "order_by": ["name DESC"], "page_token": "eyJvZmZzZXQiOiAyfQ=="},
        {"max_results": 10, "order_by": ["tags.team"]},
        {"max_results": 10, "order_by": ["colour"]},
        {"max_results": 10, "order_by": ["name sideways"]},
        {"max_results": 10, "order_by": "name"},
        {"max_results": 10, "order_by": ["name"], "view_type": "ALL"},
        {"max_results": 10, "order_by": ["name"], "view_type": "DELETED_ONLY"},
        {"max_results": 10, "order_by": ["name"], "view_type": 1},
        {"max_results": 10, "view_type": {}},
        {"max_results": 10, "page_token": "!!"},
        {"max_results": 10, "page_token": "bm90IGpzb24="},
        {"max_results": 10, "page_token": "e30="},
    ):
        yield f"experiments {body}", "POST", "experiments/search", body
    for text in (
        "name = 'first'",
        "name != 'first'",
        "attribute.name LIKE 'f%'",
        "name LIKE 'F%'",
        "name ILIKE 'F%'",
        "tags.team = 'red'",
        "tags.team != 'red'",
        "tag.team LIKE '%e%' AND name = 'first'",
        "tags.team IS NULL AND name LIKE '%ir%'",
        "tags.team IS NOT NULL",
        "name IS NULL",
        "creation_time > 5",
        "creation_time < 5",
        "creation_time > 1.5",
        "creation_time = 'x'",
        "experiment_id = '0'",
        "experiment_id IN ('0', '1')",
        "experiment_id > '0'",
        "experiment_id = 'a'",
        "name IN ('first')",
        "metrics.a > 1",
        "attributes.name = 'x'",
        "colour = 'x'",
        "nonsense",
        "name = fore",
        "name = 5",
        "name > 'a'",
        "name = 'first' OR name = 'renamed'",
        "name = 'first' AND",
        "   ",
    ):
        body = {"max_results": 20, "filter": text, "order_by": ["name"]}
        yield f"experiments where {text}", "POST", "experiments/search", body


def _runs() -> Iterator[Request]:
    tags = [{"key": "mlflow.user", "value": "ann"}, {"key": "colour", "value": "blue"}]
    yield (
        "r1",
        "POST",
        "runs/create",
        {"experiment_id": "{e1}", "start_time": T, "user_id": "ann", "run_name": "one", "tags": tags},
    )
    yield (
        "r2",
        "POST",
        "runs/create",
        {"experiment_id": "{e1}", "start_time": T + 5, "tags": [{"key": "mlflow.runName", "value": "two"}]},
    )
    yield "r3", "POST", "runs/create", {"experiment_id": "{e1}", "start_time": str(T + 9), "run_name": "three"}
    yield "r4", "POST", "runs/create", {"experiment_id": "{e2}", "start_time": T + 1, "run_name": "four"}
    yield "r5", "POST", "runs/create", {"experiment_id": "{e1}", "run_name": "no time"}
    yield "r7", "POST", "runs/create", {"experiment_id": "{e3}", "run_name": "never read"}
    child = [{"key": "mlflow.parentRunId", "value": "{r1}"}]
    yield (
        "r6",
        "POST",
        "runs/create",
        {"experiment_id": "{e1}", "start_time": T + 2, "run_name": "child", "tags": child},
    )
    yield "run without experiment", "POST", "runs/create", {}
    for place, body in enumerate(
        (
            {"experiment_id": "999"},
            {"experiment_id": "x"},
            {"experiment_id": 1.5},
            {"experiment_id": "{e1}", "start_time": "soon"},
            {"experiment_id": "{e3}", "run_name": "half a moment", "start_time": 1.5},
            {"experiment_id": "{e1}", "run_name": 7},
            {"experiment_id": "{e1}", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]},
        )
    ):
        yield f"run {place}", "POST", "runs/create", body
    for run in ("{r1}", "{r2}", "{r4}", "nobody", ""):
        yield f"get run {run}", "GET", f"runs/get?run_id={run}", None
    yield "get by uuid", "GET", "runs/get?run_uuid={r1}", None
    yield "get nothing", "GET", "runs/get", None


def _logging() -> Iterator[Request]:
    point = {"run_id": "{r1}", "key": "loss", "value": 0.5, "timestamp": T, "step": 0}
    for change in (
        {},
        {"value": 0.4, "step": 1, "timestamp": T + 1},
        {"value": 0.4, "step": 1, "timestamp": T + 1},
        {"value": 0.45, "step": 1, "timestamp": T + 1},
        {"value": 0.9, "step": 0, "timestamp": T - 1000},
        {"key": "back dated", "timestamp": 0},
        {"key": "no step", "step": None},
        {"key": "negative", "step": -5},
        {"key": "a/b.c-d_e f:g"},
        {"key": "nan", "value": "NaN"},
        {"key": "plus", "value": "Infinity"},
        {"key": "minus", "value": "-Infinity"},
        {"key": "whole", "value": 3},
        {"key": "text", "value": "1.25"},
        {"key": "large", "value": 1e300},
        {"value": "abc"},
        {"value": None},
        {"value": True},
        {"value": [1]},
        {"timestamp": None},
        {"timestamp": "later"},
        {"timestamp": -1},
        {"timestamp": str(T)},
        {"step": "two"},
        {"key": ""},
        {"key": None},
        {"key": 4},
        {"key": "what?"},
        {"key": "/absolute"},
        {"key": "../up"},
        {"key": "a//b"},
        {"key": "."},
        {"key": "k" * 251},
        {"key": "ü"},
        {"run_id": None},
        {"run_id": "nobody"},
        {"run_id": 5},
        {"run_uuid": "{r1}", "run_id": None, "key": "by uuid"},
        {"runId": "{r1}"},
    ):
        body = {key: value for key, value in {**point, **change}.items() if value is not None or key in change}
        yield f"metric {str(change)[:60]}", "POST", "runs/log-metric", body
    for change in (
        {},
        {"value": "0.1"},
        {"value": "0.2"},
        {"key": "empty", "value": ""},
        {"key": "nothing", "value": None},
        {"key": "number", "value": 5},
        {"key": "long", "value": "v" * 6001},
        {"key": "bad?"},
        {"key": ""},
        {"key": "k" * 251},
        {"run_id": "nobody"},
        {"run_id": ""},
    ):
        yield (
            f"param {str(change)[:40]}",
            "POST",
            "runs/log-parameter",
            {"run_id": "{r1}", "key": "lr", "value": "0.1", **change},
        )
    for change in (
        {},
        {"value": "green"},
        {"key": "note", "value": ""},
        {"key": "long", "value": "v" * 8001},
        {"key": "number", "value": 5},
        {"key": "a b/c.d:e"},
        {"key": "../x"},
        {"key": ""},
        {"run_id": "nobody"},
        {"key": "mlflow.runName", "value": "renamed by tag"},
    ):
        yield (
            f"tag {str(change)[:40]}",
            "POST",
            "runs/set-tag",
            {"run_id": "{r1}", "key": "colour", "value": "red", **change},
        )
    yield "untag run", "POST", "runs/delete-tag", {"run_id": "{r1}", "key": "note"}
    yield "untag run again", "POST", "runs/delete-tag", {"run_id": "{r1}", "key": "note"}
    yield "untag nobody", "POST", "runs/delete-tag", {"run_id": "nobody", "key": "note"}
    yield "untag nothing", "POST", "runs/delete-tag", {"run_id": "{r1}"}
    yield "run logged", "GET", "runs/get?run_id={r1}", None


def _batches() -> Iterator[Request]:
    metrics = [{"key": "auc", "value": i / 10, "timestamp": T + i, "step": i} for i in range(7)]
    params = [{"key": f"p{i}", "value": str(i)} for i in range(5)]
    tags = [{"key": "mlflow.runName", "value": "two again"}, {"key": "t", "value": "1"}, {"key": "t", "value": "2"}]
    yield "batch", "POST", "runs/log-batch", {"run_id": "{r2}", "metrics": metrics, "params": params, "tags": tags}
    yield (
        "batch again",
        "POST",
        "runs/log-batch",
        {"run_id": "{r2}", "metrics": metrics, "params": params, "tags": tags},
    )
    for place, body in enumerate(
        (
            {"params": [{"key": "p1", "value": "other"}, {"key": "p2", "value": "2"}]},
            {"params": [{"key": "new", "value": "1"}, {"key": "new", "value": "1"}]},
            {"params": [{"key": f"q{i}", "value": "v"} for i in range(101)]},
            {"tags": [{"key": f"q{i}", "value": "v"} for i in range(101)]},
            {"metrics": [{"key": "m", "value": 1, "timestamp": i} for i in range(1001)]},
            {
                "metrics": [{"key": "m", "value": 1, "timestamp": i} for i in range(950)],
                "params": [{"key": f"q{i}", "value": "v"} for i in range(60)],
            },
            {"metrics": [{"key": "m", "timestamp": 1}]},
            {"metrics": [{"key": "m", "value": 1}]},
            {"metrics": [{"value": 1, "timestamp": 1}]},
            {"metrics": [{"key": "m?", "value": 1, "timestamp": 1}]},
            {"metrics": [{"key": "m", "value": 1, "timestamp": -1}]},
            {"metrics": "no"},
            {"metrics": {}},
            {"params": [{"value": "1"}]},
            {"params": [{"key": "p?", "value": "1"}]},
            {"tags": [{"value": "1"}]},
            {"tags": [{"key": "..", "value": "1"}]},
            {"run_id": "nobody"},
            {"run_id": "not an id!"},
            {"run_id": ""},
            {"run_id": 3},
            {},
        )
    ):
        yield f"batch {place}", "POST", "runs/log-batch", {"run_id": "{r2}", **body}
    yield "log-batch of a list", "POST", "runs/log-batch", b"[1, 2]"
    yield "batch none", "POST", "runs/log-batch", {}
    yield "run after batches", "GET", "runs/get?run_id={r2}", None
    train = {"name": "train", "digest": "abc", "source_type": "local", "source": "s", "schema": "{}", "profile": "{}"}
    used = [{"key": "mlflow.data.context", "value": "training"}]
    yield "inputs", "POST", "runs/log-inputs", {"run_id": "{r2}", "datasets": [{"dataset": train, "tags": used}]}
    yield "inputs again", "POST", "runs/log-inputs", {"run_id": "{r2}", "datasets": [{"dataset": train, "tags": []}]}
    for place, dataset in enumerate(
        (
            {**train, "name": "n" * 501},
            {**train, "digest": "d" * 37},
            {**train, "source": "s" * 65_536},
        )
    ):
        yield f"inputs {place}", "POST", "runs/log-inputs", {"run_id": "{r2}", "datasets": [{"dataset": dataset}]}
    yield "inputs nobody", "POST", "runs/log-inputs", {"run_id": "nobody", "datasets": []}
    yield "inputs no run", "POST", "runs/log-inputs", {"datasets": []}
    yield "inputs text", "POST", "runs/log-inputs", {"run_id": "{r2}", "datasets": "x"}
    yield (
        "inputs bad tag",
        "POST",
        "runs/log-inputs",
        {"run_id": "{r2}", "datasets": [{"dataset": train, "tags": [{"key": "k" * 256, "value": "v"}]}]},
    )
    yield "input models", "POST", "runs/log-inputs", {"run_id": "{r3}", "models": [{"model_id": "m-1"}]}
    yield "outputs", "POST", "runs/outputs", {"run_id": "{r3}", "models": [{"model_id": "m-2", "step": 4}]}
    yield "outputs none", "POST", "runs/outputs", {"run_id": "{r3}"}
    yield "outputs nobody", "POST", "runs/outputs", {"run_id": "nobody", "models": [{"model_id": "m-2", "step": 4}]}
    yield "run with inputs", "GET", "runs/get?run_id={r2}", None
    yield "run with models", "GET", "runs/get?run_id={r3}", None


def _stricter() -> Iterator[Request]:
    point = {"run_id": "{r7}", "key": "a", "value": 1, "timestamp": 1, "step": 1}
    yield "half a time", "POST", "runs/log-metric", {**point, "timestamp": 1.5}
    yield "half a step", "POST", "runs/log-metric", {**point, "step": 1.5}
    yield "large step", "POST", "runs/log-metric", {**point, "step": 1 << 70}
    yield "text as value", "POST", "runs/log-batch", {"run_id": "{r7}", "metrics": [{**point, "value": "x"}]}
    dataset = {"name": 5, "digest": "abc", "source_type": "local", "source": "s"}
    yield "number as name", "POST", "runs/log-inputs", {"run_id": "{r7}", "datasets": [{"dataset": dataset}]}


def _histories() -> Iterator[Request]:
    for query in (
        "run_id={r1}&metric_key=loss",
        "run_id={r1}&metric_key=nan",
        "run_id={r1}&metric_key=plus",
        "run_id={r1}&metric_key=nothing",
        "run_id=nobody&metric_key=loss",
        "run_id={r2}&metric_key=auc",
        "run_id={r2}&metric_key=auc&max_results=3",
        "run_id={r2}&metric_key=auc&max_results=3&page_token=eyJvZmZzZXQiOiAzfQ==",
        "run_id={r2}&metric_key=auc&max_results=7",
        "run_id={r2}&metric_key=auc&max_results=0",
        "run_id={r2}&metric_key=auc&max_results=-1",
        "run_id={r2}&metric_key=auc&page_token=zzz",
        "run_id={r2}&metric_key=auc&page_token=e30=",
        "run_id={r2}",
        "metric_key=auc",
        "run_uuid={r2}&metric_key=auc",
    ):
        yield f"history {query}", "GET", f"metrics/get-history?{query}", None
    for query in (
        "run_ids={r2}&metric_key=auc",
        "run_ids={r2}&run_ids={r1}&metric_key=auc",
        "run_ids={r2}&metric_key=auc&max_results=3",
        "run_ids={r2}&metric_key=auc&max_results=1",
        "run_ids={r2}&metric_key=auc&max_results=6",
        "run_ids={r2}&metric_key=auc&start_step=2&end_step=4",
        "run_ids={r2}&metric_key=auc&start_step=4&end_step=2",
        "run_ids={r2}&metric_key=auc&start_step=4",
        "run_ids={r2}&metric_key=auc&max_results=0",
        "run_ids={r2}&metric_key=auc&max_results=2501",
        "run_ids={r2}",
        "metric_key=auc",
    ):
        yield f"bulk {query}", "GET", f"metrics/get-history-bulk-interval?{query}", None


def _ends() -> Iterator[Request]:
    for place, body in enumerate(
        (
            {"status": "FINISHED", "end_time": T + 1000},
            {"status": "FAILED"},
            {"status": "RUNNING"},
            {"status": "KILLED", "end_time": T + 2000},
            {"status": "SCHEDULED"},
            {"status": "FINISHED", "end_time": T + 3000, "run_name": "new name"},
            {"run_name": ""},
            {"status": "NO SUCH"},
            {"status": 9},
            {"status": 3},
            {"status": []},
            {"end_time": "x"},
            {"end_time": T + 4000},
            {"run_id": "nobody"},
            {"run_id": ""},
        )
    ):
        yield f"update {place}", "POST", "runs/update", {"run_id": "{r3}", **body}
    yield "updated", "GET", "runs/get?run_id={r3}", None
    yield "delete run", "POST", "runs/delete", {"run_id": "{r4}"}
    yield "delete run again", "POST", "runs/delete", {"run_id": "{r4}"}
    yield "delete nobody", "POST", "runs/delete", {"run_id": "nobody"}
    yield "delete nothing", "POST", "runs/delete", {}
    yield "deleted run", "GET", "runs/get?run_id={r4}", None
    for endpoint, more in (
        ("log-metric", {"key": "a", "value": 1, "timestamp": 1}),
        ("log-parameter", {"key": "a", "value": "1"}),
        ("set-tag", {"key": "a", "value": "1"}),
        ("delete-tag", {"key": "a"}),
        ("update", {"status": "FINISHED"}),
        ("log-batch", {"metrics": [{"key": "a", "value": 1, "timestamp": 1}]}),
        ("log-inputs", {"datasets": []}),
    ):
        yield f"{endpoint} to deleted", "POST", f"runs/{endpoint}", {"run_id": "{r4}", **more}
    yield "search deleted", "POST", "runs/search", {"experiment_ids": ["{e2}"], "run_view_type": "DELETED_ONLY"}
    yield "search active", "POST", "runs/search", {"experiment_ids": ["{e2}"]}
    yield "restore run", "POST", "runs/restore", {"run_id": "{r4}"}
    yield "restore nobody", "POST", "runs/restore", {"run_id": "nobody"}
    yield "search restored", "POST", "runs/search", {"experiment_ids": ["{e2}"]}


def _run_searches() -> Iterator[Request]:
    everywhere = ["{e1}", "{e2}"]
    for body in (
        {},
        {"experiment_ids": ["{e1}"]},
        {"experiment_ids": everywhere, "max_results": 2},
        {"experiment_ids": everywhere, "max_results": 2, "page_token": "eyJvZmZzZXQiOiAyfQ=="},
        {"experiment_ids": everywhere, "page_token": "x"},
        {"experiment_ids": everywhere, "max_results": 0},
        {"experiment_ids": everywhere, "max_results": 50_001},
        {"experiment_ids": everywhere, "max_results": "many"},
        {"experiment_ids": ["9999"]},
        {"experiment_ids": ["x"]},
        {"experiment_ids": "x"},
        {"experiment_ids": [5]},
        {"experiment_ids": everywhere, "run_view_type": "ALL"},
        {"experiment_ids": everywhere, "run_view_type": 17},
        {"experiment_ids": everywhere, "filter": 5},
        {"experiment_ids": everywhere, "order_by": "x"},
        {"experiment_ids": everywhere, "order_by": [5]},
    ):
        yield f"runs {body}", "POST", "runs/search", body
    for text in (
        "metrics.loss < 1",
        "metrics.loss >= 0.45 and params.lr = '0.1'",
        "metrics.auc = 0.6",
        "metrics.auc != 0.6",
        "metrics.plus > 5",
        "metrics.minus < 5",
        "metrics.nan > 0",
        "metrics.nan != 0",
        "metrics.`back dated` = 0.5",
        'metrics."back dated" = 0.5',
        "metrics.loss = 'x'",
        "metric.loss > 0",
        "params.p1 = '1'",
        "params.p1 != '1'",
        "params.p1 LIKE '_'",
        "param.p1 ILIKE '1%'",
        'parameters.p1 = "1"',
        "params.p1 = 1",
        "params.p1 = one",
        "params.p1 > '0'",
        "params.p1 IS NULL",
        "params.p1 IS NOT NULL",
        "params.p1 IN ('1')",
        "tags.colour = 'green'",
        "tags.colour LIKE 'GR%'",
        "tags.colour ILIKE 'GR%'",
        "tags.`mlflow.user` = 'ann'",
        "tags.mlflow.runName = 'child'",
        "tags.mlflow.runName LIKE '%e%'",
        "tags.mlflow.runName IS NOT NULL",
        "tags.mlflow.parentRunId = '{r1}'",
        "tag.colour <> 'x'",
        "attributes.status = 'FINISHED'",
        "attributes.status != 'FINISHED'",
        "status = 'RUNNING'",
        "status IN ('RUNNING')",
        "attributes.run_name = 'child'",
        "run_name LIKE 'ch%'",
        "`run name` = 'child'",
        "run_id = '{r1}'",
        "run_id IN ('{r1}', '{r2}')",
        "attributes.run_id NOT IN ('{r1}', '{r2}')",
        "run_id IN ()",
        "start_time > 5",
        f"start_time = {T + 5}",
        f"attributes.start_time >= {T + 5} AND start_time < {T + 9}",
        "start_time = 'x'",
        "start_time LIKE '5'",
        "end_time > 0",
        "created > 5",
        "user_id = 'ann'",
        "attributes.artifact_uri = 'nothing'",
        "datasets.name = 'train'",
        "dataset.digest LIKE 'a%'",
        "datasets.context = 'training'",
        "datasets.name IN ('train', 'test')",
        "datasets.size = '5'",
        "metrics.loss IS NULL",
        "nothing.a = 'b'",
        "attributes.nothing = 'b'",
        "nonsense",
        "metrics.loss >",
        "metrics.loss > 1 or metrics.loss < 5",
        "(metrics.loss > 0)",
        "metrics.loss BETWEEN 0 AND 1",
        "metrics.loss > 0 and",
        "metrics.loss > 0; metrics.loss < 1",
        "metrics.loss > -1 metrics.loss < 1",
        "1 = 1",
        "'a' = 'b'",
        "and",
        " ",
    ):
        yield f"runs where {text}", "POST", "runs/search", {"experiment_ids": everywhere, "filter": text}
    for order in (
        ["metrics.loss"],
        ["metrics.auc DESC", "metrics.loss asc"],
        ["metrics.nan DESC"],
        ["metrics.plus"],
        ["params.lr DESC"],
        ["tags.colour"],
        ["attributes.run_name"],
        ["start_time ASC"],
        ["Created DESC"],
        ["end_time DESC"],
        ["status"],
        ["tags.mlflow.runName DESC"],
        ["metrics.`back dated`"],
        ["metrics.loss", "metrics.loss DESC"],
        ["datasets.name"],
        ["colour"],
        ["nothing.a"],
        ["metrics.loss sideways"],
        ["a b c"],
        [""],
    ):
        yield f"runs by {order}", "POST", "runs/search", {"experiment_ids": ["{e1}"], "order_by": order}


def _malformed() -> Iterator[Request]:
    for place, body in enumerate(
        (b"", b"{", b"null", b"5", b'"x"', b'"{\\"run_id\\": \\"nobody\\"}"', b"\xff\xfe", b"[]", b"{}")
    ):
        for endpoint in ("runs/get-nothing", "runs/update", "runs/log-batch", "experiments/create"):
            if endpoint != "runs/get-nothing":
                yield f"malformed {place} {endpoint}", "POST", endpoint, body
    deep = b'{"run_id": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    yield "deep", "POST", "runs/log-metric", deep
    yield "get a create", "GET", "runs/create", None
    yield "post a get", "POST", "runs/get", {"run_id": "x"}


REQUESTS: list[Request] = [
    *_experiments(),
    *_experiment_searches(),
    *_runs(),
    *_logging(),
    *_batches(),
    *_stricter(),
    *_histories(),
    *_ends(),
    *_run_searches(),
    *_malformed(),
]
