# each program is one text
"""Cells: code that was made by exec, whose text is known to linecache only."""

from __future__ import annotations

from edits.case import Case, program, step

CASES: dict[str, Case] = {
    "cell: body of the step": Case(program(step("1 + 1")), {"pipeline.py": ("1 + 1", "1 + 2")}, is_notebook=True),
    "cell: helper": Case(
        program("def f():\n    return 1\n" + step("f()")), {"pipeline.py": ("return 1", "return 2")}, is_notebook=True
    ),
    "cell: constant": Case(
        program("RATE = 1\n" + step("RATE")), {"pipeline.py": ("RATE = 1", "RATE = 2")}, is_notebook=True
    ),
    "cell: class": Case(
        program("class A:\n    def go(self):\n        return 1\n" + step("A().go()")),
        {"pipeline.py": ("return 1", "return 2")},
        is_notebook=True,
    ),
    "cell: class without methods": Case(
        program("class A:\n    rate = 1\n" + step("A.rate")),
        {"pipeline.py": ("rate = 1", "rate = 2")},
        is_notebook=True,
    ),
    "cell: dataclass": Case(
        program("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n" + step("A().x")),
        {"pipeline.py": ("x: int = 1", "x: int = 2")},
        is_notebook=True,
    ),
    "cell: lambda": Case(
        program("f = lambda: 1\n" + step("f()")), {"pipeline.py": ("lambda: 1", "lambda: 2")}, is_notebook=True
    ),
    "cell: module beside it": Case(
        program("from inner import f\n" + step("f()"), inner="def f():\n    return 1\n"),
        {"inner.py": ("return 1", "return 2")},
        is_notebook=True,
    ),
    "cell: comment": Case(
        program("def f():\n    return 1\n" + step("f()")),
        {"pipeline.py": ("return 1", "return 1  # one")},
        is_notebook=True,
    ),
    "cell: a line above": Case(
        program("def f():\n    return 1\n" + step("f()")),
        {"pipeline.py": ("def f()", "X = 5\ndef f()")},
        is_notebook=True,
    ),
}
