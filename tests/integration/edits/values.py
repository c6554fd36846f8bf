# ruff: noqa: E501  # each program is one text
"""What a name stands for: methods of values, kinds of arrays and numbers, types, functions of `random`."""

from __future__ import annotations

from edits.case import Case, program, step


def constant(before: str, after: str, value: str, head: str = "") -> Case:
    """A constant X is edited; the step gives an expression of it."""
    return Case(program(f"{head}X = {before}\n" + step(value)), {"pipeline.py": (f"X = {before}", f"X = {after}")})


NUMPY = "import numpy as np\n"
TYPING = "import typing\n"

CASES: dict[str, Case] = {
    "layout of a Struct": constant("Struct('<I')", "Struct('>I')", "X.pack(1).hex()", "from struct import Struct\n"),
    "order of cmp_to_key": Case(
        program(
            "import functools\ndef order(a, b):\n    return a - b\nX = functools.cmp_to_key(order)\n"
            + step("sorted([2, 1, 3], key=X)")
        ),
        {"pipeline.py": ("return a - b", "return b - a")},
    ),
    "thing that cmp_to_key compares": constant(
        "key(3)", "key(4)", "X.obj", "import functools\nkey = functools.cmp_to_key(lambda a, b: a - b)\n"
    ),
    "text of a StringIO": constant("io.StringIO('ab')", "io.StringIO('ac')", "X.getvalue()", "import io\n"),
    "ends of lines of a StringIO": constant(
        "io.StringIO('a\\r\\nb')", "io.StringIO('a\\r\\nb', newline=None)", "X.getvalue()", "import io\n"
    ),
    "position of a StringIO": constant(
        "io.StringIO('ab'); X.seek(0)", "io.StringIO('ab'); X.seek(1)", "X.tell()", "import io\n"
    ),
    "bytes of a BytesIO": constant("io.BytesIO(b'ab')", "io.BytesIO(b'ac')", "X.getvalue().decode()", "import io\n"),
    "position of a BytesIO": constant(
        "io.BytesIO(b'ab'); X.seek(0)", "io.BytesIO(b'ab'); X.seek(1)", "X.tell()", "import io\n"
    ),
    "closed stream": constant(
        "io.BytesIO(b'ab'); X.getvalue()", "io.BytesIO(b'ab'); X.close()", "X.closed", "import io\n"
    ),
    "one stream under two names": constant(
        "io.BytesIO(b'ab'); Y = X", "io.BytesIO(b'ab'); Y = io.BytesIO(b'ab')", "X is Y", "import io\n"
    ),
    "delimiter of a dialect": constant(
        "csv.get_dialect('excel')", "csv.get_dialect('excel-tab')", "X.delimiter", "import csv\n"
    ),
    "hook of a JSONDecoder": constant(
        "json.JSONDecoder(parse_int=int)", "json.JSONDecoder(parse_int=float)", "X.decode('1')", "import json\n"
    ),
    "bytes of a memoryview": constant("memoryview(b'abcd')", "memoryview(b'abce')", "X.tobytes().decode()"),
    "format of a memoryview": constant("memoryview(b'abcd')", "memoryview(b'abcd').cast('I')", "len(X)"),
    "rights of a memoryview": constant("memoryview(b'ab')", "memoryview(bytearray(b'ab'))", "X.readonly"),
    "steps of a memoryview": constant("memoryview(b'abcd')[::2]", "memoryview(b'abcd')[::3]", "X.tolist()"),
    "match of a pattern": constant("re.match('a(.)', 'ab')", "re.match('a(.)', 'ac')", "X.group(1)", "import re\n"),
    "what a digest has taken in": constant(
        "hashlib.sha256(b'a')", "hashlib.sha256(b'b')", "X.hexdigest()", "import hashlib\n"
    ),
    "keys of a table": constant("{'a': 1}.keys()", "{'b': 1}.keys()", "sorted(X)"),
    "values of a table": constant("{'a': 1}.values()", "{'a': 2}.values()", "sorted(X)"),
    "items of a table": constant("{'a': 1}.items()", "{'a': 2}.items()", "sorted(X)"),
    "repetition without an end": constant(
        "itertools.repeat(1)", "itertools.repeat(2)", "next(X)", "import itertools\n"
    ),
    "parts of a class as a value": Case(
        program("class Table:\n    a = 1\nX = vars(Table)\n" + step("X['a']")), {"pipeline.py": ("a = 1", "a = 2")}
    ),
    "method of a table": constant("{'a': 1}.get", "{'a': 2}.get", "X('a')"),
    "method of a text": constant("'abc'.upper", "'abd'.upper", "X()"),
    "method of a number": constant("(1).__add__", "(2).__add__", "X(1)"),
    "method of a pattern": constant(
        "re.compile('a(.)').match", "re.compile('(.)b').match", "X('ab').group(1)", "import re\n"
    ),
    "method of a table as a default": Case(
        program("def f(x, look={'a': 1}.get):\n    return look(x)\n" + step("f('a')")),
        {"pipeline.py": ("'a': 1", "'a': 2")},
    ),
    "method of a table of the project's kind": Case(
        program("class Table(dict):\n    pass\nget = Table(a=1).get\n" + step("get('a')")),
        {"pipeline.py": ("a=1", "a=2")},
    ),
    "the same method of a table": Case(
        program("TABLE = {'a': 1}\nget = TABLE.get\n" + step("get('a')")), {"pipeline.py": ("{'a': 1}", "{'a':  1}")}
    ),
    "functions of random, seeded": Case(
        program(
            "import random\n@nr.step\ndef work() -> object:\n    random.seed(1)\n    return [random.random(), random.choice(range(99))]\n"
        ),
        {"pipeline.py": ("seed(1)", "seed(2)")},
    ),
    "functions of random, harmless": Case(
        program(
            "from random import choice, seed\n@nr.step\ndef work() -> object:\n    seed(1)\n    return choice(range(99))\n"
        ),
        {"pipeline.py": ("seed(1)", "seed( 1 )")},
    ),
    "bound of a deque": constant(
        "collections.deque([1], 2)", "collections.deque([1], 3)", "X.maxlen", "import collections\n"
    ),
    "mask of an array": constant(
        "np.ma.array([1, 2], mask=[0, 1])", "np.ma.array([1, 2], mask=[1, 0])", "int(X.sum())", NUMPY
    ),
    "kind of an array": constant(
        "np.array([(1,)], [('a', 'i4')])", "np.rec.array([(1,)], [('a', 'i4')])", "hasattr(X, 'a')", NUMPY
    ),
    "order of an array": constant("np.zeros((2, 2))", "np.zeros((2, 2), order='F')", "bool(X.flags.fnc)", NUMPY),
    "fields of an array": constant(
        "np.array([(1, 2)], [('a', 'i4'), ('b', 'i4')])",
        "np.array([(1, 2)], [('b', 'i4'), ('a', 'i4')])",
        "X['a'].tolist()",
        NUMPY,
    ),
    "number beyond the digits of a text": constant("10 ** 5000", "10 ** 5000 + 1", "[X, 0xffff][0] % 7"),
    "literal beyond the digits of a text": Case(
        program(step("0x1" + "0" * 5000 + " % 7")), {"pipeline.py": (" % 7", " % 11")}
    ),
    "bits of a flag": Case(
        program("import enum\nclass F(enum.IntFlag):\n    A = 1\nX = F(8)\n" + step("int(X)")),
        {"pipeline.py": ("F(8)", "F(16)")},
    ),
    "kind of a path": constant(
        "pathlib.PurePosixPath('a')", "pathlib.PureWindowsPath('a')", "type(X).__mro__[0].__name__", "import pathlib\n"
    ),
    "what a new type is of": constant(
        "typing.NewType('N', int)", "typing.NewType('N', str)", "str(X.__supertype__)", TYPING
    ),
    "bound of a type variable": constant(
        "typing.TypeVar('N', bound=int)", "typing.TypeVar('N', bound=str)", "str(X.__bound__)", TYPING
    ),
    "class in a type": Case(
        program("import typing\nclass C:\n    k = 1\nX = list[C]\n" + step("typing.get_args(X)[0].k")),
        {"pipeline.py": ("k = 1", "k = 2")},
    ),
    "function in a namespace": Case(
        program("import types\nX = types.SimpleNamespace(f=lambda x: x + 1, o=object())\n" + step("X.f(1)")),
        {"pipeline.py": ("x + 1", "x + 2")},
    ),
    "columns of polars": Case(
        program(
            "import polars as pl\n"
            + step("(pl.DataFrame({'a': [1]}).select(pl.col('a') * 2).item(), pl.col.a is None)")
        ),
        {"pipeline.py": ("* 2", "* 3")},
    ),
    "import of another branch": Case(
        program(
            "@nr.step\ndef work() -> object:\n    if len('ab') == 2:\n        from math import floor as r\n    else:\n        from math import ceil as r\n    return r(-2.5)\n"
        ),
        {"pipeline.py": ("math import floor", "math import trunc")},
    ),
    "defaults of keywords change places": Case(
        program(
            "@nr.step\ndef work() -> object:\n    def f(*, a=1, b):\n        return a, b\n    try:\n        return f(**{'b': 2})\n    except TypeError:\n        return None\n"
        ),
        {"pipeline.py": ("*, a=1, b", "*, a, b=1")},
    ),
    "annotation that is dispatched on": Case(
        program(
            "import functools\n@nr.step\ndef work() -> object:\n    def other(x: int):\n        return 1\n    f = functools.singledispatch(lambda x: 0)\n    f.register(other)\n    return [f('a'), f(1)]\n"
        ),
        {"pipeline.py": ("x: int", "x: str")},
    ),
    "signature by another name": Case(
        program("from inspect import signature as told\ndef f(x: int):\n    pass\n" + step("str(told(f))")),
        {"pipeline.py": ("x: int", "x: str")},
    ),
    "decorator over a cache": Case(
        program(
            "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a) * 2\n    return inner\n@twice\n@functools.lru_cache\ndef h(x):\n    return x + 1\n"
            + step("h(3)")
        ),
        {"pipeline.py": ("x + 1", "x + 2")},
    ),
}
