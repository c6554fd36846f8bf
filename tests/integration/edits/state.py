# ruff: noqa: E501  # each program is one text
"""Values that hold more than their text shows: things of a process, kinds below plain ones, one thing under two names."""

from __future__ import annotations

import os
import textwrap

from edits.case import Case, Change, Scene, program, step
from edits.packages import on_path
from edits.values import constant

ASKS = """
import os

def one(name):
    return os.environ.get(name)

def every(prefix):
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}
"""
THREADS = "import threading\n"
MOMENTS = "import datetime\n"
LOG = "import logging\nX = logging.getLogger('state.x')\n"


def asking(scene: Scene) -> None:
    """A package that reads variables for whoever asks it."""
    site = scene.outside / "lib" / "site-packages"
    (site / "tinylib").mkdir(parents=True, exist_ok=True)
    (site / "tinylib" / "__init__.py").write_text(textwrap.dedent(ASKS), encoding="utf-8")
    info = site / "tinylib-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinylib\nVersion: 1.0\n", encoding="utf-8")
    (info / "RECORD").write_text("tinylib/__init__.py,,\n", encoding="utf-8")
    on_path(scene, str(site))


def asked(name: str, value: str) -> Change:
    """Such a package, and a variable."""

    def change(scene: Scene) -> None:
        asking(scene)
        scene.setenv(name, value)

    return change


def through_package(text: str, name: str) -> Case:
    """A variable that a package reads for the project gets another value."""
    return Case(
        program("import tinylib\n" + step(text)), prepare=asked(name, "1"), change=lambda scene: scene.setenv(name, "2")
    )


def another_file(scene: Scene) -> None:
    """One more file comes to a folder that a query reads."""
    (scene.root / "d/b.csv").write_text("a\n4\n", encoding="utf-8")


SETTING = """
import json
import pandas as pd
from pathlib import Path
with open(Path(__file__).parent / "conf.json") as f:
    pd.set_option("display.max_columns", json.load(f)[0])
"""
LEAVING = """
import threading
class Rates:
    def __init__(self, rate):
        self.lock, self.rates = threading.Lock(), {"a": rate}
    def __getstate__(self):
        return {}
"""

CASES: dict[str, Case] = {
    "attribute of a thread's own": Case(
        program("import threading\nX = threading.local()\nX.rate = 1\n" + step("X.rate")),
        {"pipeline.py": ("rate = 1", "rate = 2")},
    ),
    "a thread's own of the project's kind": Case(
        program(
            "import threading\nclass Mine(threading.local):\n    def __init__(self):\n        self.rate = 1\nX = Mine()\n"
            + step("X.rate")
        ),
        {"pipeline.py": ("rate = 1", "rate = 2")},
    ),
    "memo of a thread": Case(
        program(
            "import threading\nX = threading.local()\ndef kept():\n    if not hasattr(X, 'made'):\n        X.made = [1]\n    return X.made\n"
            + step("kept()")
        ),
        {"pipeline.py": ("X = threading.local()", "X = threading.local()  # of each thread")},
    ),
    "event": constant("(lambda e: (e.set(), e)[1])(threading.Event())", "threading.Event()", "X.is_set()", THREADS),
    "lock that is held": constant(
        "(lambda e: (e.acquire(), e)[1])(threading.Lock())", "threading.Lock()", "X.locked()", THREADS
    ),
    "semaphore": constant(
        "threading.Semaphore(1)",
        "threading.Semaphore(2)",
        "[X.acquire(False), X.acquire(False), X.release()][1]",
        THREADS,
    ),
    "condition": Case(
        program("import threading\nX = threading.Condition()\ndef f():\n    with X:\n        return 1\n" + step("f()")),
        {"pipeline.py": ("threading.Condition()", "threading.Condition( )")},
    ),
    "default of a context variable": constant(
        "contextvars.ContextVar('x', default=1)",
        "contextvars.ContextVar('x', default=2)",
        "X.get()",
        "import contextvars\n",
    ),
    "context variable that is set": Case(
        program("import contextvars\nX = contextvars.ContextVar('x')\nX.set(1)\n" + step("X.get()")),
        {"pipeline.py": ("set(1)", "set(2)")},
    ),
    "level of a logger": Case(program(LOG + "X.setLevel(10)\n" + step("X.level")), {"pipeline.py": ("(10)", "(30)")}),
    "level of a logger that is asked": Case(
        program(LOG + "X.setLevel(10)\n" + step("logging.getLogger('state.x').isEnabledFor(20)")),
        {"pipeline.py": ("(10)", "(30)")},
    ),
    "level of a logger that is written to": Case(
        program(LOG + "X.setLevel(10)\ndef f():\n    X.info('a')\n    return 1\n" + step("f()")),
        {"pipeline.py": ("(10)", "(30)")},
    ),
    "unit of a moment": constant(
        "pd.Timestamp('2020-01-01')", "pd.Timestamp('2020-01-01').as_unit('ns')", "X.unit", "import pandas as pd\n"
    ),
    "the same moment": constant(
        "pd.Timestamp('2020-01-01')", "pd.Timestamp('2020-01-01' )", "X.unit", "import pandas as pd\n"
    ),
    "attribute of a date of the project's kind": Case(
        program(
            "import datetime\nclass Day(datetime.date):\n    pass\nX = Day(2020, 1, 1)\nX.rate = 1\n" + step("X.rate")
        ),
        {"pipeline.py": ("rate = 1", "rate = 2")},
    ),
    "offset of a named zone": constant(
        "datetime.timezone(datetime.timedelta(hours=1), 'Z')",
        "datetime.timezone(datetime.timedelta(hours=2), 'Z')",
        "str(X.utcoffset(None))",
        MOMENTS,
    ),
    "offset of a moment of the project's zone": Case(
        program(
            "import datetime\nclass Zone(datetime.tzinfo):\n    def __init__(self, hours=0):\n        self.hours = hours\n"
            "    def utcoffset(self, at):\n        return datetime.timedelta(hours=self.hours)\n"
            "X = datetime.datetime(2020, 1, 1, tzinfo=Zone(1))\n" + step("str(X.utcoffset())")
        ),
        {"pipeline.py": ("Zone(1)", "Zone(2)")},
    ),
    "attribute of a path of the project's kind": Case(
        program(
            "import pathlib\nclass Place(pathlib.PurePosixPath):\n    pass\nX = Place('a')\nX.rate = 1\n"
            + step("X.rate")
        ),
        {"pipeline.py": ("rate = 1", "rate = 2")},
    ),
    "name of a series": constant(
        "pl.Series('a', [1])", "pl.Series('b', [1])", "pl.DataFrame([X]).columns", "import polars as pl\n"
    ),
    "state of a decorator that is an object": Case(
        program(
            "import functools\nclass times:\n    def __init__(self, f):\n        functools.update_wrapper(self, f)\n        self.n = 3\n"
            "    def __call__(self, x):\n        return self.__wrapped__(x) * self.n\n@times\ndef h(x):\n    return x\nh.n = 4\n"
            + step("h(2)")
        ),
        {"pipeline.py": ("h.n = 4", "h.n = 5")},
    ),
    "one list twice": constant("(lambda a: [a, a])([1])", "[[1], [1]]", "(X[0].append(2), X[1])[1]"),
    "rows that are one list": constant("[[0] * 2] * 2", "[[0] * 2 for _ in range(2)]", "(X[0].append(2), X[1])[1]"),
    "one object twice": Case(
        program(
            "class A:\n    n = 0\ndef twice():\n    a = A()\n    return [a, a]\nX = twice()\n"
            + step("(setattr(X[0], 'n', 2), X[1].n)[1]")
        ),
        {"pipeline.py": ("X = twice()", "X = [A(), A()]")},
    ),
    "one list under two names": Case(
        program("A = [1]\nB = A\n" + step("(A.append(2), B[:], A.pop())[1]")), {"pipeline.py": ("B = A", "B = [1]")}
    ),
    "one list, used twice": Case(
        program("A = [1]\ndef f():\n    return A[0]\ndef g():\n    return A[-1]\n" + step("f() + g()")),
        {"pipeline.py": ("A = [1]", "A = [1]  # one")},
    ),
    "variable that a package asks for": through_package("tinylib.one('APP_T_ONE')", "APP_T_ONE"),
    "variables that a package goes through": through_package("tinylib.every('APP_T_')", "APP_T_TWO"),
    "terminal, where a package goes through variables": through_package("tinylib.every('APP_T_')", "TERM_PROGRAM"),
    "whether there is a variable": Case(
        program("import os\n" + step("'APP_T_IN' in os.environ")),
        change=lambda scene: scene.setenv("APP_T_IN", "1"),
    ),
    "whether there is a variable of a computed name": Case(
        program("import os\n" + step("[n not in os.environ for n in ('APP_T_' + s for s in ['IN'])]")),
        change=lambda scene: scene.setenv("APP_T_IN", "1"),
    ),
    "variable as bytes, of another": Case(
        program("import os\n" + step("os.environb[b'PATH'] != b''")),
        change=lambda scene: scene.setenv("APP_T_OTHER", "1"),
    ),
    "template that includes another": Case(
        program(
            "import jinja2\nfrom pathlib import Path\nE = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / 't'))\n"
            + step("E.get_template('a.j2').render(x=1)")
        )
        | {"t/a.j2": "{% include 'b.j2' %}{{x}}", "t/b.j2": "base"},
        {"t/b.j2": ("base", "other")},
    ),
    "template by a relative path": Case(
        program(
            "import jinja2\nE = jinja2.Environment(loader=jinja2.FileSystemLoader('t'))\n"
            + step("E.get_template('a.j2').render(x=1)")
        )
        | {"t/a.j2": "hi {{ x }}"},
        {"t/a.j2": ("hi", "ho")},
        prepare=lambda scene: os.chdir(scene.root),
    ),
    "template that a step before has read": Case(
        {
            "pipeline.py": "import jinja2\nimport noria as nr\nE = jinja2.Environment(loader=jinja2.FileSystemLoader('t'))\n\n"
            "@nr.step\ndef first() -> int:\n    return len(E.get_template('a.j2').render(x=1))\n\n"
            "@nr.step(extra_files=['t/a.j2'])\ndef work(length: int) -> object:\n    return E.get_template('a.j2').render(x=length)\n\n"
            "@nr.pipeline\ndef flow():\n    work(first())\n",
            "t/a.j2": "hi {{ x }}",
        },
        {"t/a.j2": ("hi", "ho")},
        prepare=lambda scene: os.chdir(scene.root),
    ),
    "macro of a template": Case(
        program(
            "import jinja2\nfrom pathlib import Path\nE = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / 't'))\n"
            "K = 1\ndef rate():\n    return K\nE.globals['rate'] = rate\n" + step("E.get_template('a.j2').render()")
        )
        | {"t/a.j2": "{{ rate() }}"},
        {"pipeline.py": ("K = 1", "K = 2")},
    ),
    "query of a connection": Case(
        program(
            "import duckdb\nfrom pathlib import Path\nHERE = Path(__file__).parent\n\n@nr.step\ndef work() -> object:\n"
            "    made = duckdb.connect()\n    made.execute(f\"create view v as select * from read_csv_auto('{HERE}/d/*.csv')\")\n"
            "    return made.execute('select sum(a) from v').fetchone()[0]\n"
        )
        | {"d/a.csv": "a\n1\n"},
        change=another_file,
    ),
    "setting from a file that is closed by then": Case(
        program(SETTING + step("pd.get_option('display.max_columns')")) | {"conf.json": "[7]"},
        {"conf.json": ("7", "8")},
    ),
    "file that is closed by then, harmless": Case(
        program(SETTING + step("pd.get_option('display.max_columns')")) | {"conf.json": "[7]"},
        {"pipeline.py": ("json.load(f)[0]", "json.load( f )[0]")},
    ),
    "what is kept of an object leaves out what is asked": Case(
        program(LEAVING + "X = Rates(1)\n" + step("X.rates['a']")), {"pipeline.py": ("Rates(1)", "Rates(2)")}
    ),
    "the same object, which leaves something out": Case(
        program(LEAVING + "X = Rates(1)\n" + step("X.rates['a']")), {"pipeline.py": ("Rates(1)", "Rates( 1 )")}
    ),
    "object that is kept by its name": Case(
        program("class C:\n    def __reduce__(self):\n        return 'X'\nX = C()\nX.rate = 1\n" + step("X.rate")),
        {"pipeline.py": ("X.rate = 1", "X.rate = 2")},
    ),
    "object that is kept by other arguments": Case(
        program(
            "class C:\n    __slots__ = ('__rate',)\n    def __init__(self, rate):\n        self.__rate = rate\n"
            "    def __reduce__(self):\n        return (C, (0,))\n    def get(self):\n        return self.__rate\nX = C(1)\n"
            + step("X.get()")
        ),
        {"pipeline.py": ("X = C(1)", "X = C(2)")},
    ),
    "attribute of an array of the project's kind": Case(
        program(
            "import numpy as np\nclass Array(np.ndarray):\n    pass\nX = np.zeros(2).view(Array)\nX.extra = 1\n"
            + step("X.extra")
        ),
        {"pipeline.py": ("X.extra = 1", "X.extra = 2")},
    ),
}
