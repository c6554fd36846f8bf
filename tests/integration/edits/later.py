# ruff: noqa: E501  # each program is one text
"""Edits thought of after the others were green, to find what they do not cover."""

from __future__ import annotations

from edits.case import Case, Scene, program, step

CASES: dict[str, Case] = {
    "function in an estimator": Case(
        program(
            "from sklearn.preprocessing import FunctionTransformer\ndef f(x):\n    return x * 2\nT = FunctionTransformer(f)\n"
            + step("T.transform([[1]])")
        ),
        {"pipeline.py": ("x * 2", "x * 3")},
    ),
    "subclass of an estimator": Case(
        program(
            "import numpy as np\nfrom sklearn.base import BaseEstimator\nclass M(BaseEstimator):\n    def predict(self, x):\n        return len(x) + 1\n"
            + step("M().predict([1])")
        ),
        {"pipeline.py": ("+ 1", "+ 2")},
    ),
    "function made by numpy": Case(
        program("import numpy as np\ndef f(x):\n    return x * 2\nU = np.frompyfunc(f, 1, 1)\n" + step("int(U(3))")),
        {"pipeline.py": ("x * 2", "x * 3")},
    ),
    "vectorized function": Case(
        program("import numpy as np\n@np.vectorize\ndef f(x):\n    return x * 2\n" + step("f([3]).tolist()")),
        {"pipeline.py": ("x * 2", "x * 3")},
    ),
    "class made by type()": Case(
        program("def go(self):\n    return 1\nX = type('X', (), {'go': go})\n" + step("X().go()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "attribute of a class made by type()": Case(
        program("X = type('X', (), {'rate': 1})\n" + step("X.rate")), {"pipeline.py": ("'rate': 1", "'rate': 2")}
    ),
    "simple namespace": Case(
        program("import types\nC = types.SimpleNamespace(rate=1)\n" + step("C.rate")),
        {"pipeline.py": ("rate=1", "rate=2")},
    ),
    "decorator that is a class": Case(
        program(
            "class D:\n    def __init__(self, f):\n        self.f = f\n    def __call__(self):\n        return self.f() * 2\n@D\ndef f():\n    return 1\n"
            + step("f()")
        ),
        {"pipeline.py": ("return 1", "return 3")},
    ),
    "body of a decorator that is a class": Case(
        program(
            "class D:\n    def __init__(self, f):\n        self.f = f\n    def __call__(self):\n        return self.f() * 2\n@D\ndef f():\n    return 1\n"
            + step("f()")
        ),
        {"pipeline.py": ("* 2", "* 4")},
    ),
    "step that calls a step": Case(
        program("\n@nr.step\ndef other(x: int) -> int:\n    return x + 1\n" + step("other(1)")),
        {"pipeline.py": ("x + 1", "x + 2")},
    ),
    "method by methodcaller": Case(
        program(
            "import operator\nclass A:\n    def go(self):\n        return 1\nGO = operator.methodcaller('go')\n"
            + step("GO(A())")
        ),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "relative import in a function": Case(
        program(
            "from pack import run\n" + step("run()"),
            pack____init__="def run():\n    from . import deep\n    return deep.f()\n",
            pack__deep="def f():\n    return 1\n",
        ),
        {"pack/deep.py": ("return 1", "return 2")},
    ),
    "relative name in a function": Case(
        program(
            "from pack.mid import run\n" + step("run()"),
            pack____init__="",
            pack__mid="def run():\n    from .deep import f\n    return f()\n",
            pack__deep="def f():\n    return 1\n",
        ),
        {"pack/deep.py": ("return 1", "return 2")},
    ),
    "function made by exec": Case(
        program("SPACE = {}\nexec('def f():\\n    return 1', SPACE)\nf = SPACE['f']\n" + step("f()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "builtin that was replaced": Case(
        program(
            "import builtins\nimport patch\n" + step("sorted([2, 1])"),
            patch="import pipeline_state\n",
            pipeline_state="def mine(items):\n    return 'patched'\n",
        ),
        {"pipeline.py": ("sorted([2, 1])", "sorted([3, 1])")},
    ),
    "folder walked": Case(
        program(
            "import os\nfrom pathlib import Path\n"
            + step("sorted(n for _, _, names in os.walk(Path(__file__).parent / 'd') for n in names)")
        )
        | {"d/e/a.txt": "1"},
        change=lambda scene: _write(scene, "d/e/b.txt"),
    ),
    "folder searched deeply": Case(
        program(
            "from pathlib import Path\n" + step("sorted(p.name for p in (Path(__file__).parent / 'd').rglob('*.txt'))")
        )
        | {"d/e/a.txt": "1"},
        change=lambda scene: _write(scene, "d/e/b.txt"),
    ),
    "compressed file": Case(
        program(
            "import gzip\nfrom pathlib import Path\n\n@nr.step\ndef work() -> object:\n    with gzip.open(Path(__file__).with_name('c.gz'), 'rt') as f:\n        return f.read()\n"
        ),
        prepare=lambda scene: _gzip(scene, "1"),
        change=lambda scene: _gzip(scene, "2"),
    ),
    "resource of a package": Case(
        program(
            "import importlib.resources\nimport pack\n"
            + step("importlib.resources.files(pack).joinpath('c' + '.txt').read_text()"),
            pack____init__="",
        )
        | {"pack/c.txt": "1"},
        {"pack/c.txt": ("1", "2")},
    ),
    "threads of a pool": Case(
        program(
            "from concurrent.futures import ThreadPoolExecutor\nimport importlib\nfrom pathlib import Path\ndef get(n):\n    return importlib.import_module(n).f()\n\n@nr.step\ndef work() -> object:\n"
            "    name = Path(__file__).with_name('w.txt').read_text().strip()\n    with ThreadPoolExecutor(2) as pool:\n        return list(pool.map(get, [name, name]))\n",
            inner="from deep import g\ndef f():\n    return g()\n",
            deep="def g():\n    return 1\n",
        )
        | {"w.txt": "inner"},
        {"deep.py": ("return 1", "return 2")},
    ),
    "type of a parameter of a data class field": Case(
        program(
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n    xs: list = field(default_factory=lambda: [1])\n"
            + step("A().xs")
        ),
        {"pipeline.py": ("[1]", "[2]")},
    ),
    "object that a module's function keeps": Case(
        program(
            "from inner import get\n" + step("get().rate"),
            inner="class C:\n    def __init__(self, rate):\n        self.rate = rate\n_ONE = C(1)\ndef get():\n    return _ONE\n",
        ),
        {"inner.py": ("C(1)", "C(2)")},
    ),
    "table of tables": Case(
        program(
            "def a():\n    return 1\ndef b():\n    return 2\nT = {'x': {'y': [a, {'z': b}]}}\n"
            + step("T['x']['y'][1]['z']()")
        ),
        {"pipeline.py": ("return 2", "return 3")},
    ),
    "mutual recursion": Case(
        program(
            "def even(n):\n    return True if n == 0 else odd(n - 1)\ndef odd(n):\n    return False if n == 0 else even(n - 1)\n"
            + step("even(3)")
        ),
        {"pipeline.py": ("False if", "None if")},
    ),
    "global that a function sets": Case(
        program(
            "STATE = 1\ndef put(x):\n    global STATE\n    STATE = x\ndef get():\n    return STATE\n\n@nr.step\ndef work() -> object:\n    put(5)\n    return get()\n"
        ),
        {"pipeline.py": ("put(5)", "put(6)")},
    ),
    "pattern match": Case(
        program(
            "def f(x):\n    match x:\n        case {'a': [1, *rest]}:\n            return rest\n        case _:\n            return 0\n"
            + step("f({'a': [1, 2]})")
        ),
        {"pipeline.py": ("[1, *rest]", "[2, *rest]")},
    ),
    "walrus and comprehension": Case(
        program("N = 3\n" + step("[y for x in range(N) if (y := x * 2) > 1]")), {"pipeline.py": ("N = 3", "N = 4")}
    ),
    "exception that is caught": Case(
        program(
            "class E(Exception):\n    code = 1\n\n@nr.step\ndef work() -> object:\n    try:\n        raise E\n    except E as e:\n        return e.code\n"
        ),
        {"pipeline.py": ("code = 1", "code = 2")},
    ),
    "abstract class": Case(
        program(
            "import abc\nclass B(abc.ABC):\n    @abc.abstractmethod\n    def go(self): ...\n    def run(self):\n        return self.go() + 1\nclass A(B):\n    def go(self):\n        return 1\n"
            + step("A().run()")
        ),
        {"pipeline.py": ("self.go() + 1", "self.go() + 2")},
    ),
    "virtual subclass by protocol": Case(
        program(
            "import typing\n@typing.runtime_checkable\nclass P(typing.Protocol):\n    def go(self): ...\nclass A:\n    def go(self):\n        return 1\n"
            + step("isinstance(A(), P)")
        ),
        {"pipeline.py": ("class A:\n    def go", "class A:\n    def went")},
    ),
    "slice of a constant": Case(program("L = [1, 2, 3]\n" + step("L[1:]")), {"pipeline.py": ("2, 3", "2, 4")}),
    "default of a dictionary": Case(
        program("import collections\ndef one():\n    return 1\nD = collections.defaultdict(one)\n" + step("D['x']")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
}


def _write(scene: Scene, name: str) -> None:
    (scene.root / name).write_text("1", encoding="utf-8")


def _gzip(scene: Scene, text: str) -> None:
    import gzip

    with gzip.open(scene.root / "c.gz", "wt") as file:
        file.write(text)
