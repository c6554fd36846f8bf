"""The requests about evaluation data sets that both servers get.

As in `mlflow_requests`: `{name}` stands for an id that the answer to the request of that name gave; `{name 0}` for
the first record that it told, `{name token}` for its page token.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

__all__ = ["EVALSET_LEAKS", "EVALSET_REQUESTS", "EVALSET_STRICTER"]

Request = tuple[str, str, str, Any]
EVALSET_STRICTER = frozenset(
    {
        "create long name",
        "create long tag",
        "create long experiment",
        "merge inputs list",
        "merge inputs text",
        "merge expectations list",
        "merge odd source known",
        "merge object",
    }
)
"""What is refused here where the other server takes it: its other databases do not, or a client cannot read it."""
EVALSET_LEAKS = frozenset({"d6", "d7", "create tags nested", "create twice", "merge nobody", "deleted merge"})
"""Where the other server tells what its database or its code says at that moment: only the status is compared."""
SET = "datasets/{d1}"


def _merged(*records: Any) -> dict[str, str]:
    return {"records": json.dumps(list(records))}


def _created() -> Iterator[Request]:
    yield "e1", "POST", "/api/2.0/mlflow/experiments/create", {"name": "evaluated"}
    yield "e2", "POST", "/api/2.0/mlflow/experiments/create", {"name": "other"}
    make = "datasets/create"
    yield (
        "d1",
        "POST",
        make,
        {"name": "first", "experiment_ids": ["{e1}"], "tags": '{"team": "red", "mlflow.user": "a"}'},
    )
    yield "d2", "POST", make, {"name": "second", "experiment_ids": ["{e1}", "{e2}"], "tags": '{"team": "blue"}'}
    yield "d3", "POST", make, {"name": "Third", "tags": "{}"}
    yield "d4", "POST", make, {"name": "first", "experiment_ids": []}
    yield "d5", "POST", make, {"name": "elsewhere", "experiment_ids": ["999", "odd"]}
    yield (
        "d6",
        "POST",
        make,
        {"name": "kinds", "tags": '{"a": 5, "b": 1.5}', "source": "s", "created_by": "z"},
    )
    yield "d7", "POST", make, {"name": "truth", "tags": '{"c": true}'}
    for name in ("d1", "d2", "d3", "d4", "d5", "d6", "d7"):
        yield f"get {name}", "GET", f"datasets/{{{name}}}", None
        yield f"experiments {name}", "GET", f"datasets/{{{name}}}/experiment-ids", None
    yield "get nobody", "GET", "datasets/nobody", None
    yield "experiments nobody", "GET", "datasets/nobody/experiment-ids", None


def _tags() -> Iterator[Request]:
    for name, said in {
        "one": {"tags": '{"team": "green"}'},
        "more": {"tags": '{"stage": "test", "n": 5, "yes": true, "none": null}'},
        "empty": {"tags": "{}"},
        "nothing": {},
        "no text": {"tags": ""},
        "object": {"tags": {"a": "b"}},
        "no json": {"tags": "x"},
        "list": {"tags": "[]"},
        "user": {"tags": '{"mlflow.user": "b"}'},
    }.items():
        yield f"tag {name}", "PATCH", f"{SET}/tags", said
        yield f"tag {name} seen", "GET", SET, None
    yield "tag nobody", "PATCH", "datasets/nobody/tags", {"tags": "{}"}
    yield "untag", "DELETE", f"{SET}/tags/n", None
    yield "untag again", "DELETE", f"{SET}/tags/n", None
    yield "untag nobody", "DELETE", "datasets/nobody/tags/n", None
    yield "untag seen", "GET", SET, None


def _merges() -> Iterator[Request]:
    path = f"{SET}/records"
    yield "no records", "GET", path, None
    yield "merge none", "POST", path, _merged()
    yield "merge none seen", "GET", SET, None
    human = {"source_type": "human", "source_data": {"source_id": "ann", "x": 1}}
    trace = {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}
    user = {"mlflow.user": "ann", "k": "v"}
    for name, said in {
        "1": _merged({"inputs": {"q": "one"}}),
        "2": _merged({"inputs": {"q": "two", "n": 1}, "expectations": {"a": "b", "f": 1.5}, "tags": user}),
        "3": _merged({"inputs": {"q": "three"}, "source": human, "outputs": {"r": [1]}}),
        "4": _merged({"inputs": {"q": "four"}, "source": trace, "outputs": None, "tags": None}),
        "5": _merged({"inputs": {"q": None, "z": True, "o": {}, "l": []}, "source": {"source_type": "CODE"}}),
        "6": _merged({"inputs": {}}, {"expectations": {"only": 1}}, {"inputs": {"q": "six"}, "outputs": "text"}),
        "again": _merged({"inputs": {"q": "one"}, "expectations": {"a": 1}, "tags": {"t": "1"}, "outputs": 5}),
        "again more": _merged({"inputs": {"q": "one"}, "expectations": {"b": 2}, "tags": {"mlflow.user": "bob"}}),
        "again none": _merged({"inputs": {"q": "one"}, "outputs": None, "expectations": None, "tags": {}}),
        "twice": _merged({"inputs": {"q": "x"}}, {"inputs": {"q": "x"}, "outputs": 1, "tags": {"a": "b"}}),
        "key order": _merged({"inputs": {"n": 1, "q": "two"}, "expectations": {"a": "c"}}),
        "other source": _merged({"inputs": {"q": "one"}, "source": human}),
        "unspecified": _merged({"inputs": {"q": "u"}, "source": {"source_type": "unspecified", "source_data": None}}),
        "document": _merged({"inputs": {"q": "d"}, "source": {"source_type": "Document", "source_data": {}}}),
        "odd numbers": {"records": '[{"inputs": {"n": NaN, "big": 123456789012345678901234567890, "e": 1e400}}]'},
        "odd texts": {"records": '[{"inputs": {"t": "\\ud800 \\u0000 ü 🎲"}, "outputs": "\\u0000"}]'},
        "falsy": _merged({"inputs": {"q": "f"}, "outputs": 0, "expectations": {}, "tags": {}, "source": None}),
        "extra": _merged({"inputs": {"q": "more"}, "who": "knows", "dataset_record_id": "mine", "created_time": 5}),
        "updated by": {**_merged({"inputs": {"q": "by"}}), "updated_by": "zed"},
    }.items():
        yield f"merge {name}", "POST", path, said
        yield f"merge {name} set", "GET", SET, None
        yield f"merge {name} records", "GET", path, None
    for name, said in {
        "nothing": {},
        "empty text": {"records": ""},
        "list": {"records": []},
        "no json": {"records": "["},
        "object": {"records": "{}"},
        "full object": {"records": '{"inputs": {}}'},
        "texts": _merged("a"),
        "numbers": _merged(5),
        "null": _merged(None),
        "inputs null": _merged({"inputs": None}),
        "inputs list": _merged({"inputs": []}),
        "inputs full list": _merged({"inputs": [1]}),
        "inputs text": _merged({"inputs": ""}),
        "expectations text": _merged({"inputs": {"w": 1}, "expectations": "a"}),
        "expectations list": _merged({"inputs": {"w": 2}, "expectations": []}),
        "wrong source": _merged({"inputs": {"w": 3}, "source": {"source_type": "nobody"}}),
        "no source type": _merged({"inputs": {"w": 4}, "source": {"source_data": {}}}),
        "odd source": _merged({"inputs": {"w": 5}, "source": {"source_type": "CODE", "else": 1}}),
        "odd source known": _merged({"inputs": {"q": "one"}, "source": {"else": 1}}),
        "text source": _merged({"inputs": {"w": 6}, "source": "CODE"}),
        "half wrong": _merged({"inputs": {"w": 7}}, {"inputs": {"w": 8}, "source": {"source_type": "nobody"}}),
    }.items():
        yield f"merge {name}", "POST", path, said
        yield f"merge {name} seen", "GET", SET, None
    yield "merge nobody", "POST", "datasets/nobody/records", _merged({"inputs": {"q": 1}})
    yield "merge nobody none", "POST", "datasets/nobody/records", _merged()


def _pages() -> Iterator[Request]:
    path = "datasets/{d2}/records"
    for number in range(7):
        yield f"fill {number}", "POST", path, _merged({"inputs": {"n": number}})
    for query in ("", "?max_results=3", "?max_results=7", "?max_results=0", "?max_results=8", "?max_results=x"):
        yield f"page{query}", "GET", f"{path}{query}", None
    yield "page negative", "GET", f"{path}?max_results=-1", None
    yield "page two", "GET", f"{path}?max_results=3&page_token={{page?max_results=3 token}}", None
    yield "page three", "GET", f"{path}?max_results=3&page_token={{page two token}}", None
    yield "page by offset", "GET", f"{path}?max_results=3&page_token=5", None
    yield "page past the end", "GET", f"{path}?page_token=50", None
    yield "page wrong token", "GET", f"{path}?page_token=xyz!", None
    token = base64.b64encode(b"0:").decode()
    yield "page of old", "GET", f"{path}?page_token={token}", None
    yield "page of nobody", "GET", "datasets/nobody/records", None
    for name, ids in {
        "one": ["{page 0}"],
        "again": ["{page 0}"],
        "two": ["{page 1}", "{page 2}", "nobody", "{page 1}"],
        "none": [],
        "other": ["{merge 1 records 0}"],
    }.items():
        yield f"drop {name}", "DELETE", path, {"dataset_record_ids": ids}
        yield f"drop {name} set", "GET", "datasets/{d2}", None
        yield f"drop {name} records", "GET", path, None
    yield "drop nothing", "DELETE", path, {}
    yield "drop text", "DELETE", path, {"dataset_record_ids": "x"}
    yield "drop of nobody", "DELETE", "datasets/nobody/records", {"dataset_record_ids": ["x"]}
    left = ["{page 3}", "{page 4}", "{page 5}", "{page 6}"]
    yield "drop left", "DELETE", path, {"dataset_record_ids": left}
    yield "drop left set", "GET", "datasets/{d2}", None
    yield "merge none after", "POST", path, _merged()
    yield "merge none after set", "GET", "datasets/{d2}", None
    yield "merge after", "POST", path, _merged({"inputs": {"m": 1}})
    yield "merge after set", "GET", "datasets/{d2}", None


def _assigned() -> Iterator[Request]:
    for deed in ("add", "remove"):
        path = f"datasets/{{d4}}/{deed}-experiments"
        for name, said in {
            "one": {"experiment_ids": ["{e1}"]},
            "again": {"experiment_ids": ["{e1}"]},
            "more": {"experiment_ids": ["{e2}", "0", "{e1}"]},
            "nobody": {"experiment_ids": ["{e1}", "999"]},
            "odd": {"experiment_ids": ["odd"]},
            "zeros": {"experiment_ids": ["007"]},
            "none": {"experiment_ids": []},
            "nothing": {},
            "text": {"experiment_ids": "0"},
            "number": {"experiment_ids": [0]},
        }.items():
            yield f"{deed} {name}", "POST", path, said
            yield f"{deed} {name} seen", "GET", "datasets/{d4}/experiment-ids", None
        yield f"{deed} of nobody", "POST", f"datasets/nobody/{deed}-experiments", {"experiment_ids": ["0"]}


FILTERS = (
    "name = 'first'",
    "name != 'first'",
    "name LIKE 'f%'",
    "name LIKE 'F%'",
    "name ILIKE 't%'",
    "name IN ('first', 'second')",
    "name IN ('first')",
    "name NOT IN ('first')",
    "name IN ()",
    "name > 'first'",
    "name = somebody",
    "name = 5",
    'name = "first"',
    "name = 'first' AND tags.team = 'green'",
    "name = 'first' and name = 'second'",
    "name = 'first' OR name = 'second'",
    "tags.team = 'red'",
    "tags.team = 'green'",
    "tags.team != 'green'",
    "tags.team LIKE 'b%'",
    "tags.team ILIKE 'B%'",
    "tags.team > 'a'",
    "tags.team IN ('a')",
    "tags.team IS NULL",
    "tags.mlflow.user = 'b'",
    "tags.`team` = 'green'",
    "tags.a = '5'",
    "tags.c = '1'",
    "tags.team = 5",
    "tag.team = 'green'",
    "attribute.name = 'first'",
    "name IS NULL",
    "name IS NOT NULL",
    "created_time > 0",
    "created_time < 5",
    "created_time >= 1.5",
    "created_time = 'x'",
    "created_time LIKE 5",
    "created_time != 5",
    "last_update_time > 10",
    "created_by = 'a'",
    "created_by LIKE 'a%'",
    "created_by IN ('a')",
    "last_updated_by = 'ann'",
    "last_updated_by != 'ann'",
    "digest = 'x'",
    "nobody = 'x'",
    "name",
    "name =",
    "= 'x'",
    "name = 'first';",
    "name = 'first'; name = 'second'",
    " ",
    "",
    "'name' = 'first'",
)
ORDERS: tuple[list[Any], ...] = (
    ["`name`"],
    ["`name` DESC", "created_time"],
    ["name ASC", "created_time DESC"],
    ["name DESC", "created_time"],
    ["created_time"],
    ["created_time asc"],
    ["last_update_time DESC"],
    ["created_by"],
    ["tags.team"],
    ["digest"],
    ["name sideways"],
    ["name ASC more"],
    [""],
    [],
)


def _searches() -> Iterator[Request]:
    path = "datasets/search"
    yield "search all", "POST", path, {}
    yield "search by get", "GET", f"{path}?filter_string=name%20%3D%20'first'&max_results=1", None
    yield "search get all", "GET", path, None
    for place, ids in enumerate((["{e1}"], ["{e2}"], ["{e1}", "{e2}"], ["0"], ["999"], ["odd"], [])):
        yield f"search of {place}", "POST", path, {"experiment_ids": ids}
    for place, text in enumerate(FILTERS):
        yield f"search {place} {text}", "POST", path, {"filter_string": text, "order_by": ["name", "created_time"]}
    for place, order in enumerate(ORDERS):
        yield f"order {place}", "POST", path, {"order_by": order}
    for size in (1, 2, 6, 7, 0, -1, 50_000, 50_001, "x", "2", 1.5):
        yield f"size {size!r}", "POST", path, {"max_results": size}
    yield "second", "POST", path, {"max_results": 2, "page_token": "{size 2 token}"}
    yield "third", "POST", path, {"max_results": 2, "page_token": "{second token}"}
    for place, token in enumerate(("x", "xyz!", base64.b64encode(b'{"offset": 100}').decode(), 5)):
        yield f"token {place}", "POST", path, {"page_token": token}
    yield "search wrong filter", "POST", path, {"filter_string": 5}
    yield "search wrong order", "POST", path, {"order_by": "name"}
    yield "search wrong experiments", "POST", path, {"experiment_ids": "0"}


def _wrong() -> Iterator[Request]:
    make = "datasets/create"
    for name, said in {
        "nothing": {},
        "no name": {"name": ""},
        "null name": {"name": None},
        "number name": {"name": 5},
        "experiments text": {"name": "x", "experiment_ids": "0"},
        "experiments number": {"name": "x", "experiment_ids": [5]},
        "tags object": {"name": "x", "tags": {"a": "b"}},
        "tags no json": {"name": "x", "tags": "{"},
        "tags list": {"name": "x", "tags": "[1]"},
        "tags text": {"name": "x", "tags": '"a"'},
        "tags nested": {"name": "x", "tags": '{"a": {"b": 1}}'},
        "twice": {"name": "x", "experiment_ids": ["0", "0"]},
        "long name": {"name": "n" * 256},
        "long tag": {"name": "x", "tags": json.dumps({"k": "v" * 5001})},
        "long experiment": {"name": "x", "experiment_ids": ["1" * 37]},
        "both spellings": {"name": "x", "experiment_ids": [], "experimentIds": []},
    }.items():
        yield f"create {name}", "POST", make, said


def _deletes() -> Iterator[Request]:
    yield "delete", "DELETE", SET, None
    yield "delete again", "DELETE", SET, None
    yield "deleted", "GET", SET, None
    yield "deleted records", "GET", f"{SET}/records", None
    yield "deleted experiments", "GET", f"{SET}/experiment-ids", None
    yield "deleted tag", "PATCH", f"{SET}/tags", {"tags": "{}"}
    yield "deleted untag", "DELETE", f"{SET}/tags/team", None
    yield "deleted merge", "POST", f"{SET}/records", _merged({"inputs": {"a": 1}})
    yield "deleted add", "POST", f"{SET}/add-experiments", {"experiment_ids": ["0"]}
    yield "delete nobody", "DELETE", "datasets/nobody", None
    yield "left", "POST", "datasets/search", {"experiment_ids": ["{e1}"]}
    yield "no such method", "PUT", SET, {}


EVALSET_REQUESTS: list[Request] = [
    *_created(),
    *_tags(),
    *_merges(),
    *_pages(),
    *_assigned(),
    *_searches(),
    *_deletes(),
    *_wrong(),
]
