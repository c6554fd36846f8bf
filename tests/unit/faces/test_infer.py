"""What a request's body may be, and how a misfit is named."""

from __future__ import annotations

import json

import pytest

from noria.core.errors import UsageError
from noria.faces.http.infer import parse_predict, rows_of
from noria.packaging.rows import RowRefused
from noria.serving.answers import error_body


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        ('{"a": 1, "fee": 1e999}', "fee", "out of range"),
        ('{"a": 1, "fee": [1]}', "fee", "got `array`"),
        ('{"a": {"b": 1}}', "a", "got `object`"),
    ],
)
def test_a_value_that_cannot_be_read_names_its_column(row: str, column: str, said: str) -> None:
    for body in (f'{{"row": {row}}}', f'{{"rows": [{{"a": 1}}, {row}]}}'):
        with pytest.raises(RowRefused, match=said) as error:
            rows_of(parse_predict(body.encode()))
        assert error.value.column == column
        assert error.value.message.startswith(f"column {column!r}: ")


@pytest.mark.parametrize(
    "body",
    [r'{"row": {"a": "\ud800"}}', r'{"id": "\udc00", "row": {}}', r'{"row": {"\ud83d": 1}}', r'{"id": "\ud800x"}'],
)
def test_half_of_a_character_is_called_so(body: str) -> None:
    with pytest.raises(UsageError, match="lone surrogate"):
        rows_of(parse_predict(body.encode()))


@pytest.mark.parametrize("body", ['{"row": {"a": 1', r'{"id": "\ud83d\ude00", "row": {"a"'])
def test_a_body_that_was_cut_off_is_called_so(body: str) -> None:
    with pytest.raises(UsageError, match="truncated"):
        rows_of(parse_predict(body.encode()))


def test_an_error_has_one_shape() -> None:
    bare = {"code": "internal", "message": "no", "where": "", "hint": ""}
    assert json.loads(error_body("no")) == {"error": bare}
    told = json.loads(error_body("no", code="row-refused", hint="so", column="fee", rid="c1"))
    assert told == {"error": {**bare, "code": "row-refused", "hint": "so"}, "column": "fee", "id": "c1"}
