# ruff: noqa: E501  # each program is one text
"""Classes, their bases, attributes and metaclasses, and objects of them."""

from __future__ import annotations

from edits.case import Case, program, step

CASES: dict[str, Case] = {
    "method": Case(
        program("class A:\n    def go(self):\n        return 1\n" + step("A().go()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "class attribute": Case(
        program("class A:\n    rate = 1\n" + step("A.rate")), {"pipeline.py": ("rate = 1", "rate = 2")}
    ),
    "built-in function set on a class": Case(
        program("import math\nclass A:\n    pass\nA.go = math.sin\n" + step("A.go(1)")),
        {"pipeline.py": ("math.sin", "math.cos")},
    ),
    "base class": Case(
        program("class B:\n    def go(self):\n        return 1\nclass A(B):\n    pass\n" + step("A().go()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "base class in another module": Case(
        program(
            "from bases import Base\nclass A(Base):\n    pass\n" + step("A().go()"),
            bases="class Base:\n    def go(self):\n        return 1\n",
        ),
        {"bases.py": ("return 1", "return 2")},
    ),
    "order of bases": Case(
        program("class X:\n    v = 1\nclass Y:\n    v = 2\nclass A(X, Y):\n    pass\n" + step("A.v")),
        {"pipeline.py": ("A(X, Y)", "A(Y, X)")},
    ),
    "metaclass": Case(
        program(
            "class M(type):\n    @property\n    def kind(cls):\n        return 1\nclass A(metaclass=M):\n    pass\n"
            + step("A.kind")
        ),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "hook for subclasses": Case(
        program(
            "class B:\n    def __init_subclass__(cls, n=0):\n        cls.n = n\nclass A(B, n=1):\n    pass\n"
            + step("A.n")
        ),
        {"pipeline.py": ("n=1", "n=2")},
    ),
    "property": Case(
        program("class A:\n    @property\n    def p(self):\n        return 1\n" + step("A().p")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "property assigned later": Case(
        program("class A:\n    pass\ndef get(self):\n    return 1\nA.p = property(get)\n" + step("A().p")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "cached property": Case(
        program(
            "import functools\nclass A:\n    @functools.cached_property\n    def p(self):\n        return 1\n"
            + step("A().p")
        ),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "static method": Case(
        program("class A:\n    @staticmethod\n    def f():\n        return 1\n" + step("A.f()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "class method through a constant": Case(
        program("class A:\n    @classmethod\n    def f(cls):\n        return 1\nMAKE = A.f\n" + step("MAKE()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "descriptor": Case(
        program(
            "class D:\n    def __get__(self, owner, kind=None):\n        return 1\nclass A:\n    x = D()\n"
            + step("A().x")
        ),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "operator method assigned later": Case(
        program("class A:\n    pass\ndef size(self):\n    return 1\nA.__len__ = size\n" + step("len(A())")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "dataclass default": Case(
        program("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n" + step("A().x")),
        {"pipeline.py": ("x: int = 1", "x: int = 2")},
    ),
    "dataclass option": Case(
        program(
            "from dataclasses import dataclass\n@dataclass(order=False)\nclass A:\n    x: int = 1\n"
            + step("'__lt__' in vars(A)")
        ),
        {"pipeline.py": ("order=False", "order=True")},
    ),
    "dataclass field order": Case(
        program(
            "from dataclasses import dataclass, astuple\n@dataclass\nclass A:\n    x: int = 1\n    y: int = 2\n"
            + step("astuple(A())")
        ),
        {"pipeline.py": ("    x: int = 1\n    y: int = 2\n", "    y: int = 2\n    x: int = 1\n")},
    ),
    "annotation of a dataclass": Case(
        program(
            "from dataclasses import dataclass, fields\n@dataclass\nclass A:\n    x: int = 1\n"
            + step("str(fields(A)[0].type)")
        ),
        {"pipeline.py": ("x: int", "x: float")},
    ),
    "enum value": Case(
        program("import enum\nclass E(enum.Enum):\n    A = 1\n" + step("E.A.value")),
        {"pipeline.py": ("A = 1", "A = 2")},
    ),
    "enum member as a constant": Case(
        program("import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\nMODE = E.A\n" + step("MODE.value")),
        {"pipeline.py": ("MODE = E.A", "MODE = E.B")},
    ),
    "named tuple": Case(
        program("from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 1\n" + step("P().x")),
        {"pipeline.py": ("int = 1", "int = 2")},
    ),
    "object as a constant": Case(
        program("class C:\n    def __init__(self, x):\n        self.x = x\nCONFIG = C(1)\n" + step("CONFIG.x")),
        {"pipeline.py": ("C(1)", "C(2)")},
    ),
    "object with slots": Case(
        program(
            "class C:\n    __slots__ = ('x',)\n    def __init__(self, x):\n        self.x = x\nCONFIG = C(1)\n"
            + step("CONFIG.x")
        ),
        {"pipeline.py": ("C(1)", "C(2)")},
    ),
    "bound method as a constant": Case(
        program(
            "class C:\n    def __init__(self, x):\n        self.x = x\n    def go(self):\n        return self.x\n"
            "GO = C(1).go\n" + step("GO()")
        ),
        {"pipeline.py": ("C(1)", "C(2)")},
    ),
    "class made in a function": Case(
        program(
            "def make(n):\n    class A:\n        def go(self):\n            return n\n    return A\nA = make(1)\n"
            + step("A().go()")
        ),
        {"pipeline.py": ("make(1)", "make(2)")},
    ),
    "class in a table": Case(
        program("class A:\n    v = 1\nclass B:\n    v = 2\nKINDS = {'a': A, 'b': B}\n" + step("KINDS['a'].v")),
        {"pipeline.py": ("'a': A", "'a': B")},
    ),
    "subclasses found at run time": Case(
        program(
            "import kinds\n" + step("sorted(c().go() for c in kinds.Base.__subclasses__())"),
            kinds="class Base:\n    pass\nclass A(Base):\n    def go(self):\n        return 1\n",
        ),
        {"kinds.py": ("return 1", "return 2")},
    ),
    "one more subclass": Case(
        program(
            "import kinds\n" + step("sorted(c().go() for c in kinds.Base.__subclasses__())"),
            kinds="class Base:\n    pass\nclass A(Base):\n    def go(self):\n        return 1\n",
        ),
        {"kinds.py": ("        return 1\n", "        return 1\nclass B(Base):\n    def go(self):\n        return 7\n")},
    ),
    "class whose object comes from the step before": Case(
        {
            "pipeline.py": "import noria as nr\nfrom things import Thing\n\n@nr.step\ndef make():\n    return Thing(3)\n\n@nr.step\n"
            "def work(thing) -> object:\n    return thing.go()\n\n@nr.pipeline\ndef flow():\n    work(make())\n",
            "things.py": "class Thing:\n    def __init__(self, x):\n        self.x = x\n    def go(self):\n        return self.x + 1\n",
        },
        {"things.py": ("self.x + 1", "self.x + 2")},
    ),
    "class of an object inside a list": Case(
        {
            "pipeline.py": "import noria as nr\nfrom things import Thing\n\n@nr.step\ndef make():\n    return [1, Thing(3)]\n\n@nr.step\n"
            "def work(things) -> object:\n    return things[1].go()\n\n@nr.pipeline\ndef flow():\n    work(make())\n",
            "things.py": "class Thing:\n    def __init__(self, x):\n        self.x = x\n    def go(self):\n        return self.x + 1\n",
        },
        {"things.py": ("self.x + 1", "self.x + 2")},
    ),
}
