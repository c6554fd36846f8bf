"""Conditions on rows, written as SQL expressions, read safely and evaluated batch by batch.

An expression is parsed before anything runs: one expression over the columns of the row, with
operators, CASE, casts and functions that only compute. No subquery, table, aggregate, window,
setting, chance or clock, and no way to end the expression and start another statement. All
expressions that look at a batch are one query. The engine is DuckDB without access to files.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Codes = NDArray[np.int8]
else:
    duckdb = lazy("duckdb")
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Codes = Any
pc = lazy("pyarrow.compute")

__all__ = ["BROKEN", "HOLDS", "SILENT", "Conditions", "Expression", "Unreadable", "read", "read_all"]

HOLDS, BROKEN, SILENT = 1, 0, -1
"""What an expression says of a row: true, false, or nothing (null)."""
_MACROS = frozenset(("nullif", "fmod", "fdiv", "split_part", "days_in_month", "date_add", "if"))
_USUAL = frozenset(
    ("+", "-", "*", "/", "%", "//", "||", "~~", "!~~", "~~*", "!~~*", "length", "lower", "upper", "trim", "abs",
     "round", "regexp_matches", "regexp_full_match", "date_diff", "strptime", "year", "month", "day", "contains")
)  # fmt: skip
_CLASSES = frozenset(
    ("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
     "OPERATOR", "TYPE")
)  # fmt: skip
_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "LAMBDA": "a lambda",
    "LAMBDA_REF": "a lambda",
}
_CONFIG = {"enable_external_access": "false", "autoload_known_extensions": "false", "threads": "1"}


class Unreadable(ValueError):
    """An expression that cannot be read or may not be asked; the text says why."""


@frozen
class Expression:
    """An expression that was read, and the columns that it names."""

    text: str
    columns: frozenset[str]


def read_all(texts: Sequence[str], columns: Sequence[str] = ()) -> dict[str, Expression | Unreadable]:
    """Parse some expressions at once, which is cheaper; those that cannot be read say why."""
    found: dict[str, Expression | Unreadable] = {}
    if not texts:
        return found
    with _connection() as connection:
        for text in dict.fromkeys(texts):
            try:
                found[text] = _named(text, _checked(_parse(connection, text), connection), columns)
            except Unreadable as fault:
                found[text] = fault
    return found


def read(text: str, columns: Sequence[str] = ()) -> Expression:
    """Parse an expression without evaluating anything.

    Args:
        columns: those that rows have; empty when they are not known yet.
    Raises: Unreadable, with the nearest name for an unknown column or function.
    """
    found = read_all([text], columns)[text]
    if isinstance(found, Unreadable):
        raise found
    return found


def _named(text: str, names: set[str], columns: Sequence[str]) -> Expression:
    folded = {name.lower(): name for name in columns}
    known = set()
    for name in names:
        if columns and name.lower() not in folded:
            near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
            raise Unreadable(f"no column {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        known.add(folded.get(name.lower(), name))
    return Expression(text, frozenset(known))


class Conditions:
    """Some expressions over batches of one schema. `faults` names those that cannot be evaluated."""

    def __init__(self, expressions: Sequence[Expression], schema: pa.Schema) -> None:
        self._texts = list(dict.fromkeys(expression.text for expression in expressions))
        self._names = sorted({name for expression in expressions for name in expression.columns})
        self._connection = _connection()
        self.faults: dict[str, str] = {}
        self._rows = 0
        there = [name for name in self._names if name in schema.names]
        empty = pa.table({name: pa.nulls(0, schema.field(name).type) for name in there})
        for text in self._texts:
            if self._ask(empty, [text]):
                self._require_truth(text)

    def close(self) -> None:
        """Let go of the engine."""
        self._connection.close()

    def evaluate(self, rows: pa.Table) -> Mapping[str, Codes]:
        """For each expression that can be evaluated: `HOLDS`, `BROKEN` or `SILENT` for every row."""
        wanted = [text for text in self._texts if text not in self.faults]
        self._rows = rows.num_rows
        if not wanted:
            return {}
        there = [name for name in self._names if name in rows.column_names]
        table = pa.table({name: _without_nan(rows[name]) for name in there})
        try:
            return self._query(table, wanted)
        except duckdb.Error:
            return {text: codes for text in wanted for codes in self._ask(table, [text])}

    def _ask(self, table: pa.Table, texts: list[str]) -> list[Codes]:
        """One by one, so that the one that fails is named."""
        found = []
        for text in texts:
            try:
                found.append(self._query(table, [text])[text])
            except duckdb.Error as error:
                self.faults[text] = _reason(error)
        return found

    def _require_truth(self, text: str) -> None:
        """A number or a text is no answer: `fee` alone would hold wherever the fee is not 0."""
        kind = self._connection.execute(f"describe select ({text}) as c from rows").fetchall()[0][1]
        if kind != "BOOLEAN":
            self.faults[text] = f"it gives {kind.lower()}, not true or false: a comparison is missing"

    def _query(self, table: pa.Table, texts: list[str]) -> dict[str, Codes]:
        shown = table if table.num_columns else pa.table({"": pa.nulls(self._rows, pa.int8())})
        self._connection.register("rows", shown)
        columns = ", ".join(
            f"coalesce((({text})::boolean)::tinyint, -1)::tinyint as c{i}" for i, text in enumerate(texts)
        )
        found = self._connection.execute(f"select {columns} from rows").fetchnumpy()
        return {text: np.asarray(found[f"c{index}"], np.int8) for index, text in enumerate(texts)}


def _without_nan(values: Any) -> Any:
    """NaN as null: a value that is not there, as for every other rule. To DuckDB it is above all numbers."""
    if not pa.types.is_floating(values.type):
        return values
    is_nan = pc.is_nan(values)
    return pc.if_else(is_nan, pa.scalar(None, values.type), values) if pc.any(is_nan).as_py() else values


def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config=dict(_CONFIG))


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].partition("Candidate")[0].partition("LINE 1")[0].strip()[:160]


def _parse(connection: duckdb.DuckDBPyConnection, text: str) -> Any:
    if not text.strip():
        raise Unreadable("it is empty")
    query = f"select ({text}) from rows"
    found = connection.execute("select json_serialize_sql(?::varchar)", [query]).fetchall()
    document = json.loads(found[0][0])
    if document.get("error"):
        said = str(document.get("error_message", "it is no SQL expression")).splitlines()[0][:160]
        quotes = ' (a column that is called like a word of SQL is written "at")' if "syntax error" in said else ""
        raise Unreadable(said + quotes)
    statements = document["statements"]
    node = statements[0]["node"]
    is_one = len(statements) == 1 and node["type"] == "SELECT_NODE" and len(node["select_list"]) == 1
    source = node.get("from_table") or {}
    is_plain = (
        source.get("type") == "BASE_TABLE" and source.get("table_name") == "rows" and not source.get("schema_name")
    )
    has_more = any(node.get(part) for part in ("where_clause", "group_expressions", "having", "qualify", "sample"))
    if not is_one or not is_plain or has_more or node.get("modifiers"):
        raise Unreadable("it is more than one expression")
    return node["select_list"][0]


def _functions(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    query = (
        "select distinct function_name from duckdb_functions() "
        "where function_type = 'scalar' and stability = 'CONSISTENT'"
    )
    return frozenset(row[0] for row in connection.execute(query).fetchall()) | _MACROS


def _checked(node: Any, connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The columns of a parsed expression. Raises: Unreadable for anything that does not only compute."""
    names: set[str] = set()
    functions = _USUAL
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            kind = part.get("class")
            if kind == "COLUMN_REF":
                if len(part["column_names"]) != 1:
                    raise Unreadable(f"{'.'.join(part['column_names'])} is not a column of the row")
                names.add(part["column_names"][0])
            elif kind == "FUNCTION":
                name = part["function_name"]
                if name not in functions:
                    functions = _functions(connection)
                if part.get("filter") or part.get("order_bys", {}).get("orders") or name not in functions:
                    near = difflib.get_close_matches(name, functions, n=1, cutoff=0.75) if name not in functions else []
                    hint = f", did you mean {near[0]!r}?" if near else " (only functions that compute on one row are)"
                    raise Unreadable(f"the function {name!r} is not allowed{hint}")
            elif kind is not None and kind not in _CLASSES:
                raise Unreadable(f"{_REFUSED.get(kind, kind.lower())} is not allowed")
            waiting += part.values()
    return names
