"""Names that are looked up in the frames of callers: by pandas, by DuckDB, by the project's own code."""

from __future__ import annotations

from edits.case import Case, program, step

FRAMES = "import pandas as pd\nTABLE = pd.DataFrame({'a': [1, 5, 9]})\nLIMIT = 3\nOTHER = 1\na = 7\n"
SQL = "import duckdb\nimport pandas as pd\nTABLE = pd.DataFrame({'a': [1, 5]})\nOTHER = 1\na = 7\n"

BMAT = """
import warnings
import numpy as np
A = np.array([[1]])
def f():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.bmat("A, A").tolist()
"""


def helper(text: str, value: str, old: str, new: str) -> Case:
    """The edit of a constant beside a helper that gives a value."""
    return Case(
        program("import inner\n" + step("inner.f()"), inner=f"{text}\ndef f():\n    return {value}\n"),
        {"inner.py": (old, new)},
    )


def query(value: str, old: str = "LIMIT = 3", new: str = "LIMIT = 6") -> Case:
    """The edit of a constant beside a query of pandas."""
    return helper(FRAMES, value, old, new)


def sql(value: str, old: str = "[1, 5]", new: str = "[1, 6]") -> Case:
    """The edit of a table beside a query of DuckDB."""
    return helper(SQL, value, old, new)


CASES: dict[str, Case] = {
    "pandas' query, in the step's module": Case(
        program(FRAMES + step("len(TABLE.query('a > @LIMIT'))")), {"pipeline.py": ("LIMIT = 3", "LIMIT = 6")}
    ),
    "pandas' query": query("len(TABLE.query('a > @LIMIT'))"),
    "pandas' query of a text that is made": query("len(TABLE.query('a > @' + 'LIM' + 'IT'))"),
    "pandas' query, another constant": query("len(TABLE.query('a > @LIMIT'))", "OTHER = 1", "OTHER = 2"),
    "pandas' eval": query("TABLE.eval('b = a * @LIMIT').b.tolist()"),
    "pandas' eval, a constant with the name of a column": query("TABLE.eval('a + a').tolist()", "a = 7", "a = 8"),
    "pandas' eval by itself": query("int(pd.eval('LIMIT * 2'))"),
    "numpy's bmat": Case(program("import inner\n" + step("inner.f()"), inner=BMAT), {"inner.py": ("[[1]]", "[[2]]")}),
    "DuckDB's table": sql("duckdb.sql('select sum(a) s from TABLE').fetchall()".replace("TABLE", '"TABLE"')),
    "DuckDB's table of a connection": sql("duckdb.connect().execute('from \"TABLE\"').fetchall()"),
    "DuckDB's table in a text that is made": sql(
        "duckdb.query('from ' + repr('TAB' + 'LE').replace(\"'\", '\"')).fetchall()"
    ),
    "DuckDB, a constant with the name of a column": sql(
        "duckdb.sql('select sum(a) s from \"TABLE\"').fetchall()", "a = 7", "a = 8"
    ),
    "the globals of a frame": helper(
        "import sys\nLIMIT = 3\n", "sys._getframe().f_globals['LIM' + 'IT']", "LIMIT = 3", "LIMIT = 6"
    ),
    "the globals of a caller's frame": Case(
        program(
            "import inner\nLIMIT = 3\n" + step("inner.f()"),
            inner="import inspect\ndef f():\n    return inspect.currentframe().f_back.f_globals['LIM' + 'IT']\n",
        ),
        {"pipeline.py": ("LIMIT = 3", "LIMIT = 6")},
    ),
    "the globals of a frame in the stack": Case(
        program(
            "import inner\nLIMIT = 3\n" + step("inner.f()"),
            inner="import inspect\ndef f():\n    return inspect.stack()[1].frame.f_globals['LIM' + 'IT']\n",
        ),
        {"pipeline.py": ("LIMIT = 3", "LIMIT = 6")},
    ),
}
