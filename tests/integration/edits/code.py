# ruff: noqa: E501  # each program is one text
"""Functions, constants, closures and tables."""

from __future__ import annotations

from edits.case import Case, program, step

PLAIN = program("def helper(x):\n    return x * 2\n" + step("helper(4)"))
OTHER = program(
    "from lib.shapes import area\n" + step("area(3)"), lib____init__="", lib__shapes="def area(x):\n    return x * x\n"
)
DECORATED = """
import functools
def times(n):
    def wrap(f):
        @functools.wraps(f)
        def inner(*args):
            return f(*args) * n
        return inner
    return wrap
@times(2)
def f():
    return 5
"""
DISPATCH = """
import functools
@functools.singledispatch
def show(x):
    return "other"
@show.register
def _(x: int):
    return "whole"
@show.register(str)
def _text(x):
    return "text"
"""
TABLE = "def plus(x):\n    return x + 10\ndef minus(x):\n    return x - 10\n"

CASES: dict[str, Case] = {
    "body of the step": Case(program(step("1 + 1")), {"pipeline.py": ("1 + 1", "1 + 2")}),
    "helper": Case(PLAIN, {"pipeline.py": ("x * 2", "x * 3")}),
    "helper in another module": Case(OTHER, {"lib/shapes.py": ("x * x", "x * x * x")}),
    "helper of a helper in a third module": Case(
        program(
            "from one import f\n" + step("f()"),
            one="import two\ndef f():\n    return two.g()\n",
            two="def g():\n    return 1\n",
        ),
        {"two.py": ("return 1", "return 2")},
    ),
    "constant": Case(program("RATE = 2\n" + step("RATE * 10")), {"pipeline.py": ("RATE = 2", "RATE = 3")}),
    "constant in another module": Case(
        program("import conf\n" + step("conf.LIMITS['low']"), conf="LIMITS = {'low': 1, 'high': 9}\n"),
        {"conf.py": ("'low': 1", "'low': 2")},
    ),
    "constant that is computed": Case(
        program("BASE = 2\nRATE = BASE ** 3\n" + step("RATE")), {"pipeline.py": ("BASE = 2", "BASE = 3")}
    ),
    "default of a helper": Case(
        program("D = 1\ndef f(x=D):\n    return x\n" + step("f()")), {"pipeline.py": ("D = 1", "D = 2")}
    ),
    "keyword-only default": Case(
        program("def f(*, x=1):\n    return x\n" + step("f()")), {"pipeline.py": ("x=1", "x=2")}
    ),
    "default of the step": Case(
        program("\n@nr.step\ndef work(x: int = 1) -> int:\n    return x\n"), {"pipeline.py": ("int = 1", "int = 2")}
    ),
    "closure value": Case(
        program(
            "def make(n):\n    def add(x):\n        return x + n\n    return add\nadd = make(3)\n" + step("add(1)")
        ),
        {"pipeline.py": ("make(3)", "make(4)")},
    ),
    "closure body": Case(
        program(
            "def make(n):\n    def add(x):\n        return x + n\n    return add\nadd = make(3)\n" + step("add(1)")
        ),
        {"pipeline.py": ("x + n", "x - n")},
    ),
    "closure over a function": Case(
        program(
            "def twice(f):\n    def inner(x):\n        return f(f(x))\n    return inner\n"
            "def inc(x):\n    return x + 1\ng = twice(inc)\n" + step("g(1)")
        ),
        {"pipeline.py": ("x + 1", "x + 2")},
    ),
    "nested function": Case(
        program("def f(x):\n    def g(y):\n        return y + 1\n    return g(x)\n" + step("f(1)")),
        {"pipeline.py": ("y + 1", "y + 2")},
    ),
    "lambda": Case(program("f = lambda x: x + 1\n" + step("f(1)")), {"pipeline.py": ("x + 1", "x + 2")}),
    "one of two lambdas on a line": Case(
        program("f, g = (lambda: 1), (lambda: 2)\n" + step("g()")), {"pipeline.py": ("lambda: 2", "lambda: 3")}
    ),
    "key of a sort": Case(
        program("BY = {'a': 2, 'b': 1}\n" + step("sorted(['a', 'b'], key=lambda name: BY[name])")),
        {"pipeline.py": ("'a': 2", "'a': 0")},
    ),
    "partial": Case(
        program("import functools\ndef f(x, y):\n    return x + y\ng = functools.partial(f, 1)\n" + step("g(5)")),
        {"pipeline.py": ("(f, 1)", "(f, 2)")},
    ),
    "function under a partial": Case(
        program("import functools\ndef f(x, y):\n    return x + y\ng = functools.partial(f, 1)\n" + step("g(5)")),
        {"pipeline.py": ("x + y", "x - y")},
    ),
    "dispatch table swapped": Case(
        program(TABLE + "TABLE = {'p': plus, 'm': minus}\n" + step("TABLE['p'](1)")),
        {"pipeline.py": ("'p': plus, 'm': minus", "'p': minus, 'm': plus")},
    ),
    "function in a dispatch table": Case(
        program(TABLE + "TABLE = {'p': plus, 'm': minus}\n" + step("TABLE['m'](1)")),
        {"pipeline.py": ("x - 10", "x - 11")},
    ),
    "function in a list": Case(
        program(TABLE + "STEPS = [plus, minus, plus]\n" + step("[f(1) for f in STEPS]")),
        {"pipeline.py": ("minus, plus]", "minus, minus]")},
    ),
    "registry filled by a decorator": Case(
        program(
            "from registry import REGISTRY\nimport entries\n" + step("sorted(f() for f in REGISTRY.values())"),
            registry="REGISTRY = {}\ndef register(f):\n    REGISTRY[f.__name__] = f\n    return f\n",
            entries="from registry import register\n@register\ndef a():\n    return 1\n@register\ndef b():\n    return 2\n",
        ),
        {"entries.py": ("return 2", "return 3")},
    ),
    "singledispatch by annotation": Case(
        program(DISPATCH + step("show(1)")), {"pipeline.py": ('"whole"', '"integer"')}
    ),
    "singledispatch by argument": Case(program(DISPATCH + step("show('x')")), {"pipeline.py": ('"text"', '"string"')}),
    "singledispatch fallback": Case(program(DISPATCH + step("show(1.5)")), {"pipeline.py": ('"other"', '"else"')}),
    "argument of a decorator": Case(program(DECORATED + step("f()")), {"pipeline.py": ("@times(2)", "@times(3)")}),
    "body of a decorator": Case(program(DECORATED + step("f()")), {"pipeline.py": ("f(*args) * n", "f(*args) + n")}),
    "function under a decorator": Case(program(DECORATED + step("f()")), {"pipeline.py": ("return 5", "return 6")}),
    "decorator of the step": Case(
        program(
            "def twice(f):\n    def inner() -> object:\n        return f() * 2\n    return inner\n"
            "\n@nr.step\n@twice\ndef work() -> object:\n    return 3\n".replace("def inner", "def work").replace(
                "return inner", "return work"
            )
        ),
        {"pipeline.py": ("f() * 2", "f() * 4")},
    ),
    "function under lru_cache": Case(
        program("import functools\n@functools.lru_cache\ndef f():\n    return 5\n" + step("f()")),
        {"pipeline.py": ("return 5", "return 6")},
    ),
    "function under contextmanager": Case(
        program(
            "import contextlib\n@contextlib.contextmanager\ndef f():\n    yield 5\n"
            "def g():\n    with f() as x:\n        return x\n" + step("g()")
        ),
        {"pipeline.py": ("yield 5", "yield 6")},
    ),
    "generator helper": Case(
        program("def f(n):\n    for i in range(n):\n        yield i\n" + step("list(f(3))")),
        {"pipeline.py": ("yield i", "yield i + 1")},
    ),
    "itemgetter": Case(
        program("import operator\nGET = operator.itemgetter('a')\n" + step("GET({'a': 1, 'b': 2})")),
        {"pipeline.py": ("'a')", "'b')")},
    ),
    "attrgetter on a module": Case(
        program(
            "import operator\nimport inner\n" + step("operator.attrgetter('f')(inner)()"),
            inner="def f():\n    return 1\n",
        ),
        {"inner.py": ("return 1", "return 2")},
    ),
    "numpy array": Case(
        program("import numpy as np\nW = np.array([1.0, 2.0])\n" + step("float(W.sum())")),
        {"pipeline.py": ("2.0]", "3.0]")},
    ),
    "pandas table": Case(
        program("import pandas as pd\nT = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\n" + step("int(T['a'].sum())")),
        {"pipeline.py": ("[1, 2]", "[1, 3]")},
    ),
    "compiled pattern": Case(
        program("import re\nP = re.compile('a+')\n" + step("bool(P.match('b'))")), {"pipeline.py": ("'a+'", "'b+'")}
    ),
    "set and frozenset": Case(
        program("S = frozenset({'a', 'b'})\n" + step("'c' in S")), {"pipeline.py": ("'b'}", "'b', 'c'}")}
    ),
    "zero and minus zero": Case(
        program("import math\nZ = 0.0\n" + step("math.copysign(1, Z)")), {"pipeline.py": ("Z = 0.0", "Z = -0.0")}
    ),
    "order of a dict": Case(
        program("D = {'a': 1, 'b': 2}\n" + step("list(D)")), {"pipeline.py": ("'a': 1, 'b': 2", "'b': 2, 'a': 1")}
    ),
    "module imported in the step": Case(
        program(
            "\n@nr.step\ndef work() -> object:\n    import inner\n    return inner.f()\n",
            inner="def f():\n    return 1\n",
        ),
        {"inner.py": ("return 1", "return 2")},
    ),
    "name imported in the step": Case(
        program(
            "\n@nr.step\ndef work() -> object:\n    from inner import f\n    return f()\n",
            inner="def f():\n    return 1\n",
        ),
        {"inner.py": ("return 1", "return 2")},
    ),
    "import for its effect": Case(
        program(
            "\n@nr.step\ndef work() -> object:\n    import effect\n    from state import BOX\n    return list(BOX)\n",
            effect="import state\nstate.BOX.append(1)\n",
            state="BOX = []\n",
        ),
        {"effect.py": ("append(1)", "append(2)")},
    ),
    "star import": Case(
        program("from inner import *\n" + step("f()"), inner="def f():\n    return 1\n"),
        {"inner.py": ("return 1", "return 2")},
    ),
    "star import that begins to hide": Case(
        program(
            "from inner import *\nfrom other import *\n" + step("f()"),
            inner="def f():\n    return 1\n",
            other="X = 1\n",
        ),
        {"other.py": ("X = 1", "def f():\n    return 2")},
    ),
    "re-export by a package": Case(
        program(
            "from pack import f\n" + step("f()"),
            pack____init__="from .deep import f\n",
            pack__deep="def f():\n    return 1\n",
        ),
        {"pack/deep.py": ("return 1", "return 2")},
    ),
    "swapped imports": Case(
        program(
            "from inner import a as f, b as g\n" + step("(f(), g())"),
            inner="def a():\n    return 1\ndef b():\n    return 2\n",
        ),
        {"pipeline.py": ("a as f, b as g", "b as f, a as g")},
    ),
    "module-level condition": Case(
        program(
            "FAST = True\nif FAST:\n    def f():\n        return 1\nelse:\n    def f():\n        return 2\n"
            + step("f()")
        ),
        {"pipeline.py": ("FAST = True", "FAST = False")},
    ),
    "parameter that is a function": Case(
        program("def f():\n    return 1\n\n@nr.step\ndef work(g: object) -> object:\n    return g()\n").copy()
        | {
            "pipeline.py": "import noria as nr\ndef f():\n    return 1\n\n@nr.step\ndef work(g: object) -> object:\n"
            "    return g()\n\n@nr.pipeline\ndef flow():\n    work(f)\n"
        },
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "parameter that is an enum": Case(
        {
            "pipeline.py": "import enum\nimport noria as nr\nclass Mode(enum.Enum):\n    A = 1\n    B = 2\n\n@nr.step\n"
            "def work(mode: object) -> object:\n    return mode.value\n\n@nr.pipeline\ndef flow():\n    work(Mode.A)\n"
        },
        {"pipeline.py": ("work(Mode.A)", "work(Mode.B)")},
    ),
    "version of the step": Case(
        program("import json\n" + step("json.dumps([1])", '(version="1")')), {"pipeline.py": ("[1]", "[2]")}
    ),
}
