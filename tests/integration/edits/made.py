# ruff: noqa: E501  # each program is one text
"""Classes whose text does not say all: made by a call or a function, one of several of a name, changed later."""

from __future__ import annotations

from edits.case import Case, program, step

BY_FUNCTION = "def make(v):\n{body}\n    return C\nC = make(1)\n"
TWO = "import dataclasses, enum, sys\nif sys.version_info > (3, 0):\n{first}\nelse:\n{second}\n"


def made(body: str, value: str, old: str = "make(1)", new: str = "make(2)", head: str = "") -> Case:
    """A function makes the class C, whose text names an argument."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return Case(program(head + BY_FUNCTION.format(body=lines) + step(value)), {"pipeline.py": (old, new)})


def called(before: str, after: str, value: str, head: str) -> Case:
    """The class C is what a call gives."""
    return Case(program(f"{head}\nC = {before}\n" + step(value)), {"pipeline.py": (f"C = {before}", f"C = {after}")})


CASES: dict[str, Case] = {
    "default of a method": made("class C:\n    def f(self, x=v):\n        return x", "C().f()"),
    "default of a method, harmless": made(
        "class C:\n    def f(self, x=v):\n        return x", "C().f()", "def f(self", "def f( self"
    ),
    "members of an enum": made("class C(enum.Enum):\n    A = v", "C.A.value", head="import enum\n"),
    "factory of a field": Case(
        program(
            "import dataclasses\ndef make(v):\n    @dataclasses.dataclass\n    class C:\n        x: object = dataclasses.field(default_factory=v)\n    return C\nC = make(list)\n"
            + step("C().x")
        ),
        {"pipeline.py": ("make(list)", "make(dict)")},
    ),
    "field of attrs": made(
        "@attrs.define\nclass C:\n    a: object = v\n    b: object = attrs.field(factory=list)",
        "C().a",
        head="import attrs\n",
    ),
    "field of attrs, harmless": made(
        "@attrs.define\nclass C:\n    a: object = v",
        "C().a",
        "import attrs\n",
        "import attrs  # all\n",
        head="import attrs\n",
    ),
    "field of pydantic": made("class C(pydantic.BaseModel):\n    a: int = v", "C().a", head="import pydantic\n"),
    "model of pydantic by a call": called(
        "create_model('C', a=(int, 1))", "create_model('C', a=(int, 2))", "C().a", "from pydantic import create_model"
    ),
    "value under two underscores": made("class C:\n    __flag__ = v", "C.__flag__"),
    "value under two underscores, set later": Case(
        program("class C:\n    pass\nC.__limit__ = 1\n" + step("C.__limit__")), {"pipeline.py": ("= 1", "= 2")}
    ),
    "one of two enums": Case(
        program(
            TWO.format(first="    class E(enum.Enum):\n        A = 1", second="    class E(enum.Enum):\n        A = 7")
            + step("E.A.value")
        ),
        {"pipeline.py": ("A = 1", "A = 2")},
    ),
    "one of two dataclasses": Case(
        program(
            TWO.format(
                first="    @dataclasses.dataclass\n    class D:\n        a: object = dataclasses.field(default_factory=dict)",
                second="    @dataclasses.dataclass\n    class D:\n        a: object = dataclasses.field(default_factory=set)",
            )
            + step("D().a")
        ),
        {"pipeline.py": ("factory=dict", "factory=list")},
    ),
    "make_dataclass": called(
        "make_dataclass('C', [('a', int, 1)])",
        "make_dataclass('C', [('a', int, 2)])",
        "C().a",
        "from dataclasses import make_dataclass",
    ),
    "new_class": called(
        "new_class('C', (), {}, lambda n: n.update(k=1))",
        "new_class('C', (), {}, lambda n: n.update(k=2))",
        "C.k",
        "from types import new_class",
    ),
    "call of a metaclass": called(
        "ABCMeta('C', (), {'k': 1})", "ABCMeta('C', (), {'k': 2})", "C.k", "from abc import ABCMeta"
    ),
    "call of TypedDict": called(
        "TypedDict('C', {'a': int})",
        "TypedDict('C', {'b': int})",
        "sorted(C.__required_keys__)",
        "from typing import TypedDict",
    ),
    "order of the attributes that match takes": Case(
        program(
            "class K:\n    x, y = 1, 2\nK.__match_args__ = ('x', 'y')\n@nr.step\ndef work() -> object:\n    match K():\n        case K(a, b):\n            return a, b\n"
        ),
        {"pipeline.py": ("('x', 'y')", "('y', 'x')")},
    ),
    "globals of a function": Case(
        program("import other\n" + step("other.f.__globals__['V']"), other="V = 1\ndef f():\n    pass\n"),
        {"other.py": ("V = 1", "V = 2")},
    ),
    "attribute of a member": Case(
        program("import enum\nclass E(enum.Enum):\n    A = 1\nE.A.weight = 1\n" + step("E.A.weight")),
        {"pipeline.py": ("weight = 1", "weight = 2")},
    ),
    "registered class": Case(
        program(
            "import abc\nclass P(abc.ABC):\n    pass\nclass X:\n    pass\nclass Y:\n    pass\nP.register(X)\n"
            + step("isinstance(X(), P)")
        ),
        {"pipeline.py": ("register(X)", "register(Y)")},
    ),
    "name of a class that it reads outside first": Case(
        program(
            "RATE = 1\n@nr.step\ndef work() -> object:\n    class C:\n        RATE = RATE * 2\n    return C.RATE\n"
        ),
        {"pipeline.py": ("RATE = 1", "RATE = 2")},
    ),
    "name of a class that it gives up": Case(
        program(
            "RATE = 1\n@nr.step\ndef work() -> object:\n    class C:\n        RATE = 5\n        del RATE\n        k = RATE\n    return C.k\n"
        ),
        {"pipeline.py": ("RATE = 1", "RATE = 2")},
    ),
    "name that a class sets for itself": Case(
        program(
            "RATE = 1\n@nr.step\ndef work() -> object:\n    class C:\n        RATE = 5\n        k = RATE\n    return C.k\n"
        ),
        {"pipeline.py": ("RATE = 1", "RATE = 2")},
    ),
}
