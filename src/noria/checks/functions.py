"""Checks that a project writes in Python: functions in `checks/*.py`, marked with `@nr.check`.

A function gets the rows of one new file and says what holds: true or false, a mask with one truth a
row (null says nothing), or a text that says what is wrong ("" is nothing). One that raises, or gives
anything else, fails.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from noria.checks.facts import Finding
from noria.checks.findings import passed
from noria.checks.scanning.arrays import is_null, mask
from noria.checks.scanning.expression import Expression
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Places, Rows, Tally, whole
from noria.checks.suites.rules import SEVERITIES
from noria.core.errors import ProjectError, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.core.words import counted, no_column
from noria.plugins import keep_zones

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
polars = lazy("polars")

__all__ = ["CheckFunction", "FunctionCheck", "check", "load_functions"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__noria_check__"
_FRAMES = " (it was given a pyarrow Table; the annotation `: pd.DataFrame` on its argument gives a frame)"


@frozen(kw_only=True)
class CheckFunction:
    """A function of the project that checks a data set. No `columns`: it gets all of them."""

    name: str
    dataset: str
    columns: tuple[str, ...]
    severity: str
    function: Callable[[Any], Any]
    file: str = ""


def check(dataset: str, *, columns: Sequence[str] = (), severity: str = "error", name: str = "") -> Callable[[F], F]:
    """Mark a function of `checks/*.py` as a check of a data set.

    The argument is the rows of one file as its annotation says: a pandas or polars DataFrame, else a
    pyarrow Table. It gives True or False, a mask with a truth for each row, or a text that says what
    is wrong ("" is nothing). A null in a mask is a row that was not shown to be good: it breaks the check.

    Args:
        dataset: which data set it checks.
        columns: those that it looks at; only they are read. None: all.
        severity: error stops the pipeline, warn does not.
        name: in findings; by default the function's.
    Raises: UsageError for another severity.
    """
    if severity not in SEVERITIES:
        raise UsageError(f'severity is {severity!r}, not "error" or "warn"', where=f"@nr.check({dataset!r})")

    def mark(function: F) -> F:
        made = CheckFunction(
            name=name or function.__name__,
            dataset=dataset,
            columns=tuple(columns),
            severity=severity,
            function=function,
        )
        setattr(function, _MARK, made)
        return function

    return mark


def load_functions(folder: Path, dataset: str) -> list[CheckFunction]:
    """The check functions of a data set in a folder's Python files, in order. Runs those files.

    Raises: ProjectError naming the file and line if one cannot be run.
    """
    found: list[CheckFunction] = []
    for path in sorted(folder.glob("*.py")):
        for value in vars(_module(path)).values():
            made = getattr(value, _MARK, None)
            if isinstance(made, CheckFunction) and made.dataset == dataset:
                found.append(
                    CheckFunction(
                        name=made.name,
                        dataset=made.dataset,
                        columns=made.columns,
                        severity=made.severity,
                        function=made.function,
                        file=path.name,
                    )
                )
    return found


def _module(path: Path) -> Any:
    name = f"_noria_checks_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # the boundary to the project's code, which may raise anything
        place = next((f for f in reversed(traceback.extract_tb(raised.__traceback__)) if f.filename == str(path)), None)
        line = place.lineno if place else getattr(raised, "lineno", None)
        raise ProjectError(
            f"checks/{path.name} cannot be run: {error_line(raised)}",
            where=f"{path}, line {line}" if line else str(path),
        ) from raised
    finally:
        sys.modules.pop(name, None)
        keep_zones()
    return module


class FunctionCheck:
    """A check function watching a file: it gathers the columns and asks once, at the end."""

    def __init__(self, function: CheckFunction, schema: pa.Schema, *, is_keeping: bool = False) -> None:
        self.function = function
        names = function.columns or tuple(schema.names)
        self.missing = [name for name in names if name not in schema.names]
        self.names = [name for name in names if name in schema.names]
        self.known = schema.names
        self.schema = pa.schema([schema.field(name) for name in self.names])
        self.tables: list[pa.Table] = []
        self.tally = Tally(is_keeping=is_keeping)
        self._failed = False

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it asked for."""
        return frozenset(self.names)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """None."""
        return ()

    def look(self, rows: Rows) -> None:
        """Keep the columns."""
        if not self.missing:
            self.tables.append(rows.table(self.names))

    def findings(self, profile: TableProfile, faults: Mapping[str, str]) -> list[Finding]:
        """Ask the function."""
        said = no_column(self.missing[0], self.known) if self.missing else ""
        message = f"cannot be evaluated: {said}" if said else self._asked()
        mine = self.function
        if not message:
            return [passed(mine.name, "", total=profile.rows, severity=mine.severity, file=profile.file)]
        self._failed = mine.severity == "error"
        count = self.tally.count or profile.rows
        return [
            self.tally.finding(
                mine.name, "", mine.severity, message, total=profile.rows, file=profile.file, count=count
            )
        ]

    def broken(self) -> list[Places]:
        """The rows that the function said no to."""
        return [self.tally.places()] if self._failed else []

    def _asked(self) -> str:
        table = whole(self.tables, self.schema)
        self.tables = []
        rows = _as_asked(self.function.function, table)
        try:
            answer = self.function.function(rows)
        except BaseException as raised:  # the boundary to the project's code: a check that raises fails
            if isinstance(raised, KeyboardInterrupt):
                raise
            hint = _FRAMES if rows is table and isinstance(raised, TypeError | AttributeError) else ""
            return f"cannot be evaluated: {error_line(raised)}{hint}"
        if isinstance(answer, str):
            return answer
        if isinstance(answer, bool | np.bool_):
            return "" if answer else f"{self.function.name} says no"
        mask, silent = _mask(answer, table.num_rows)
        if mask is None:
            return f"cannot be evaluated: it gave {type(answer).__name__}, not true, false, a mask of rows or a text"
        self.tally.add(~mask, Rows(table, 0), self.names[0] if len(self.names) == 1 else "")
        name, count = self.function.name, self.tally.count
        said = counted(count, f"row breaks {name}", f"rows break {name}") if count else ""
        return said + (f", {silent:,} of them because the answer is null" if silent else "")


def _as_asked(function: Callable[[Any], Any], table: pa.Table) -> Any:
    parameters = list(inspect.signature(function).parameters.values())
    hint = str(parameters[0].annotation) if parameters else ""
    if "polars" in hint or hint.startswith("pl."):
        return polars.from_arrow(table)
    if "DataFrame" in hint:
        return table.to_pandas()
    return table


def _mask(answer: Any, rows: int) -> tuple[Any, int]:
    """A truth for each row, null as false, and how many are null; (None, 0) if the answer is nothing of the kind."""
    if isinstance(answer, pa.ChunkedArray | pa.Array):
        if not pa.types.is_boolean(answer.type) or len(answer) != rows:
            return None, 0
        return mask(answer) & ~is_null(answer), answer.null_count
    if not hasattr(answer, "__array__") and not isinstance(answer, list | tuple):
        return None, 0
    found = np.asarray(answer)
    if found.shape != (rows,):
        return None, 0
    values = found.tolist()
    if found.dtype == object and all(_is_silent(value) or isinstance(value, bool | np.bool_) for value in values):
        silent = sum(map(_is_silent, values))
        return np.array([not _is_silent(value) and bool(value) for value in values], bool), silent
    return (found, 0) if found.dtype == bool else (None, 0)


def _is_silent(value: Any) -> bool:
    """Whether it is null: None, or the one of pandas' nullable types."""
    return value is None or type(value).__name__ == "NAType"
