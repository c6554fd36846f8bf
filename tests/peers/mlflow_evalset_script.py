"""What a team does with evaluation data sets: made, filled from dicts, tables and traces, told, searched, deleted."""

from __future__ import annotations

import json
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.genai.datasets import (
    add_dataset_to_experiments,
    create_dataset,
    delete_dataset,
    delete_dataset_tag,
    get_dataset,
    remove_dataset_from_experiments,
    search_datasets,
    set_dataset_tags,
)


def table(dataset: Any) -> list[dict[str, Any]]:
    """The rows of a data set without what each server makes up."""
    rows = dataset.to_df()[["inputs", "outputs", "expectations", "tags", "source_type"]].to_dict("records")
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def refused(work: Any) -> str:
    """The error code with which something is refused."""
    try:
        work()
    except MlflowException as error:
        return str(error.error_code)
    return "done"


told: dict[str, Any] = {}
first, second = (mlflow.create_experiment(name) for name in ("questions", "elsewhere"))
mlflow.set_experiment("questions")
dataset = create_dataset("qa", experiment_id=[first], tags={"team": "red", "version": "1.0"})
dataset.merge_records(
    [
        {"inputs": {"question": "What is it?"}, "expectations": {"answer": "a ledger"}, "tags": {"level": "easy"}},
        {"inputs": {"question": "Why?", "context": {"of": ["facts", 1, None]}}, "outputs": {"text": "because"}},
    ]
)
dataset.merge_records(
    pd.DataFrame(
        [
            {"inputs": {"question": "What is it?"}, "expectations": {"facts": ["one", "two"]}},
            {"inputs": {"question": "How?"}, "expectations": {"answer": "by folding"}},
        ]
    )
)


@mlflow.trace
def answer(question: str) -> str:
    """An application."""
    return question.upper()


for word in ("who", "where"):
    answer(word)
    mlflow.flush_trace_async_logging()
    mlflow.log_expectation(trace_id=mlflow.get_last_active_trace_id(), name="answer", value=word)
traces = mlflow.search_traces(locations=[first], return_type="list")
dataset.merge_records(traces)
dataset.merge_records(mlflow.search_traces(locations=[first]))
told["table"] = table(dataset)
frame = dataset.to_df()
sources = set(frame[frame["source_type"] == "TRACE"]["source_id"])
assert sources == {trace.info.trace_id for trace in traces}, sources

again = get_dataset(dataset_id=dataset.dataset_id)
assert table(again) == told["table"]
told["schema"], told["profile"], told["tags"] = json.loads(again.schema), again.profile, dict(again.tags)
told["experiments"] = again.experiment_ids == [first]
add_dataset_to_experiments(dataset_id=dataset.dataset_id, experiment_ids=[second])
told["added"] = get_dataset(dataset_id=dataset.dataset_id).experiment_ids == [first, second]
remove_dataset_from_experiments(dataset_id=dataset.dataset_id, experiment_ids=[first])
told["left"] = get_dataset(dataset_id=dataset.dataset_id).experiment_ids == [second]
set_dataset_tags(dataset_id=dataset.dataset_id, tags={"stage": "test", "team": "blue"})
delete_dataset_tag(dataset_id=dataset.dataset_id, key="version")
tags = get_dataset(dataset_id=dataset.dataset_id).tags
told["tagged"] = {key: tags.get(key) for key in ("stage", "team", "version")}

other = create_dataset("other", experiment_id=[second], tags={"team": "green"})
other.merge_records([{"inputs": {"number": number}} for number in range(2500)])
frame = get_dataset(dataset_id=other.dataset_id).to_df()
told["records"] = len(frame)
numbers = [inputs["number"] for inputs in frame["inputs"]]
assert sorted(numbers) == list(range(2500)), "every page, each record once"
gone = [name for name, number in zip(frame["dataset_record_id"], numbers, strict=True) if number % 2]
told["removed"] = other.delete_records(gone)
told["profile after"] = get_dataset(dataset_id=other.dataset_id).profile
told["found"] = [
    [each.name for each in search_datasets(**words)]
    for words in (
        {"filter_string": "tags.team = 'blue'"},
        {"filter_string": "name LIKE 'o%'"},
        {"experiment_ids": [second], "order_by": ["name DESC"]},
        {"experiment_ids": [first]},
        {"filter_string": "created_time > 0", "max_results": 1},
    )
]
client = MlflowClient()
with mlflow.start_run() as run:
    mlflow.log_input(get_dataset(dataset_id=other.dataset_id), context="evaluation")
told["used"] = [each.dataset.name for each in client.get_run(run.info.run_id).inputs.dataset_inputs]
delete_dataset(dataset_id=dataset.dataset_id)
told["refused"] = [
    refused(lambda: get_dataset(dataset_id=dataset.dataset_id)),
    refused(lambda: dataset.merge_records([{"inputs": {"a": 1}}])),
    refused(lambda: other.merge_records([{"inputs": {"a": 1}, "source": {"source_type": "nobody"}}])),
    refused(lambda: search_datasets(filter_string="nobody = 'x'")),
    refused(lambda: client.delete_dataset(dataset.dataset_id)),
]
told["remaining"] = [each.name for each in client.search_datasets()]
print(json.dumps(told, sort_keys=True))
