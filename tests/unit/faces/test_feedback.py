"""A label that cannot come true is refused before anything of the body is kept."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from noria.core.errors import UsageError
from noria.faces.http.feedback import lines_of, outcomes_of
from noria.serving.routes import Route, Served


def served(labels: tuple[Any, ...], task: str = "binary") -> Served:
    model: Any = SimpleNamespace(task=task, labels=labels, threshold=0.5)
    return Served(1, "content", "bundle", model)


def route(*models: Served) -> Route:
    return Route("m", 1, "seed", (), dict(enumerate(models)))


def kept(labels: list[Any], accepted: frozenset[str]) -> list[Any]:
    body = json.dumps({"labels": [{"id": f"p{i}", "label": label} for i, label in enumerate(labels)]}).encode()
    return [json.loads(line)["label"] for line in lines_of(body, 7, accepted=accepted)]


def test_classes_are_those_of_what_answers_and_a_number_where_it_is_a_regression() -> None:
    assert outcomes_of(route(served(("no", "yes")))) == {'"no"', '"yes"'}
    assert outcomes_of(route(served((0, 1)))) == {"0", "1"}
    assert outcomes_of(route(served((), "regression"))) == frozenset()


def test_one_class_has_one_form_and_null_takes_a_label_back() -> None:
    assert kept([1, 1.0, True, 0, False, None], frozenset({"0", "1"})) == [1, 1, 1, 0, 0, None]
    assert kept(["no", None], frozenset({'"no"', '"yes"'})) == ["no", None]
    assert kept([2.5, 3, None], frozenset()) == [2.5, 3, None]


@pytest.mark.parametrize(
    ("labels", "accepted", "said"),
    [
        ([1, 7], frozenset({"0", "1"}), "the label of 'p1' must be 0 or 1, not 7"),
        (["1"], frozenset({"0", "1"}), "must be 0 or 1"),
        (["maybe"], frozenset({'"no"', '"yes"'}), 'must be "no" or "yes"'),
        (["late"], frozenset(), "must be a number"),
        ([True], frozenset(), "must be a number"),
    ],
)
def test_another_label_refuses_the_whole_body(labels: list[Any], accepted: frozenset[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        kept(labels, accepted)
    assert said in error.value.message
