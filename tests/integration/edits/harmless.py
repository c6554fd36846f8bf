# ruff: noqa: E501  # each program is one text
"""Edits that change nothing; the table says so only by what the runs give."""

from __future__ import annotations

import shutil

from edits.case import Case, Scene, program, step

BASE = program(
    '"""A pipeline."""\nimport math\nfrom inner import f\nRATE = 2\n\nclass A:\n    """A."""\n    def go(self, x):\n        """Goes."""\n'
    "        return x * RATE\n\ndef g(x):\n    # adds\n    return x + f()\n\ndef unused(x):\n    return x * 99\n"
    + step("A().go(g(1))"),
    inner='"""Inner."""\n\ndef f():\n    """One."""\n    return 1\n\ndef other():\n    return 5\n',
)
LOCAL = program(
    "\n@nr.step\ndef work() -> object:\n    from inner import f\n    return f()\n", inner="def f():\n    return 1\n"
)


def rename(scene: Scene) -> None:
    """Rename a file of the project, and the import of it."""
    (scene.root / "inner.py").rename(scene.root / "renamed.py")
    place = scene.root / "pipeline.py"
    place.write_text(place.read_text().replace("inner", "renamed"), encoding="utf-8")


def move(scene: Scene) -> None:
    """Move the whole project to another folder."""
    target = scene.root.with_name("moved")
    scene.root.rename(target)
    scene.root = target


def reverted(scene: Scene) -> None:
    """Edit a file, and take the edit back."""
    place = scene.root / "inner.py"
    before = place.read_text()
    place.write_text(before.replace("return 1", "return 2"), encoding="utf-8")
    place.write_text(before, encoding="utf-8")


def remade(scene: Scene) -> None:
    """The same files with other times, as a fresh checkout has."""
    copy = scene.root.with_name("copy")
    shutil.copytree(
        scene.root, copy, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".noria", "__pycache__")
    )
    for file in copy.rglob("*.py"):
        shutil.copyfile(file, scene.root / file.relative_to(copy))


SAYS = program(
    "import logging\nimport sys\n\n@nr.step\ndef work() -> object:\n    logging.StreamHandler(sys.stderr)\n"
    "    print('begun', file=sys.stderr)  # says\n    sys.stdout.flush()\n    return 1\n"
)
MAKES = program(
    "import os\nfrom pathlib import Path\nOUT = Path(__file__).with_name('out')\n\n@nr.step\n"
    "def work() -> object:\n    OUT.mkdir(exist_ok=True)\n    os.makedirs(OUT, exist_ok=True)\n"
    "    return OUT.is_dir()\n"
)
NOTES = program(
    "import os\nfrom pathlib import Path\nNOTES = Path(__file__).with_name('notes.log')\n\n@nr.step\n"
    "def work() -> object:\n    file = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
    "    os.write(file, b'done')\n    os.close(file)  # notes\n    return 1\n"
)

CASES: dict[str, Case] = {
    "what is printed to the streams by name": Case(SAYS, {"pipeline.py": ("# says", "# tells")}),
    "folder that a step makes where there is none": Case(
        MAKES, change=lambda scene: (scene.root / "out" / "other.txt").write_text("x", encoding="utf-8")
    ),
    "file that a step only adds to": Case(NOTES, {"pipeline.py": ("# notes", "# keeps notes")}),
    "comment": Case(BASE, {"pipeline.py": ("# adds", "# makes the sum of both")}),
    "comment in another module": Case(BASE, {"inner.py": ("return 1", "return 1  # one")}),
    "docstring of a function": Case(BASE, {"inner.py": ('"""One."""', '"""The number one."""')}),
    "docstring of a class": Case(BASE, {"pipeline.py": ('"""A."""', '"""The class A."""')}),
    "docstring of a method": Case(BASE, {"pipeline.py": ('"""Goes."""', "'''Goes on.'''")}),
    "docstring of a module": Case(BASE, {"pipeline.py": ('"""A pipeline."""', '"""Another."""')}),
    "formatting": Case(BASE, {"pipeline.py": ("return x + f()", "return (\n        x\n        + f()\n    )")}),
    "quotes": Case(program("S = 'a'\n" + step("S + 'b'")), {"pipeline.py": ("S + 'b'", 'S + "b"')}),
    "empty lines": Case(BASE, {"pipeline.py": ("def g(x)", "\n\n\ndef g(x)")}),
    "unused function": Case(BASE, {"pipeline.py": ("x * 99", "x * 98")}),
    "unused function of another module": Case(BASE, {"inner.py": ("return 5", "return 6")}),
    "new function": Case(BASE, {"pipeline.py": ("def unused", "def fresh():\n    return 3\n\ndef unused")}),
    "new constant": Case(BASE, {"pipeline.py": ("RATE = 2", "RATE = 2\nOTHER = 3")}),
    "unused import": Case(BASE, {"pipeline.py": ("import math", "import math\nimport decimal")}),
    "annotation of a helper": Case(BASE, {"pipeline.py": ("def g(x):", "def g(x: int) -> int:")}),
    "annotation of a method": Case(
        program("class A:\n    def go(self, x):\n        return x\n" + step("A().go(1)")),
        {"pipeline.py": ("def go(self, x):", "def go(self, x: int) -> int:")},
    ),
    "annotation of a variable": Case(
        program("def f(x):\n    y = x + 1\n    return y\n" + step("f(1)")),
        {"pipeline.py": ("y = x + 1", "y: int = x + 1")},
    ),
    "reordered functions": Case(
        BASE,
        {
            "pipeline.py": (
                "def g(x):\n    # adds\n    return x + f()\n\ndef unused(x):\n    return x * 99\n",
                "def unused(x):\n    return x * 99\n\ndef g(x):\n    return x + f()\n",
            )
        },
    ),
    "reordered definitions of a class and a constant": Case(
        program("A = 1\ndef f():\n    return A\ndef g():\n    return 2\n" + step("f() + g()")),
        {
            "pipeline.py": (
                "A = 1\ndef f():\n    return A\ndef g():\n    return 2\n",
                "def g():\n    return 2\ndef f():\n    return A\nA = 1\n",
            )
        },
    ),
    "constant written otherwise": Case(BASE, {"pipeline.py": ("RATE = 2", "RATE = 1 + 1")}),
    "renamed local file": Case(BASE, change=rename),
    "renamed local file, imported in the step": Case(LOCAL, change=rename),
    "helper moved to another module": Case(
        program(
            "from inner import f\n" + step("f()"), inner="def f():\n    return 1\n", other="def f():\n    return 1\n"
        ),
        {"pipeline.py": ("from inner", "from other")},
    ),
    "moved project": Case(BASE, change=move),
    "moved project that reads a file": Case(
        program("from pathlib import Path\nPLACE = Path(__file__).with_name('c.txt')\n" + step("PLACE.read_text()"))
        | {"c.txt": "1"},
        change=move,
    ),
    "moved project that keeps its folder as text": Case(
        program(
            "import os\nPLACE = os.path.join(os.path.dirname(__file__), 'c.txt')\n\n@nr.step\ndef work() -> object:\n"
            "    with open(PLACE) as file:\n        return file.read()\n"
        )
        | {"c.txt": "1"},
        change=move,
    ),
    "reverted edit": Case(BASE, change=reverted),
    "files written again": Case(BASE, change=remade),
    "alias of an import": Case(
        program("import inner\n" + step("inner.f()"), inner="def f():\n    return 1\n"),
        {"pipeline.py": ("import inner\n", "import inner, math\n")},
    ),
    "set written in another order": Case(
        program("S = {'a', 'b', 'c'}\n" + step("'b' in S")), {"pipeline.py": ("'a', 'b', 'c'", "'c', 'b', 'a'")}
    ),
    "retry and resources": Case(program(step("1", "(cpu=1.0)")), {"pipeline.py": ("cpu=1.0", "cpu=2.0")}),
    "memo that a helper fills": Case(
        program(
            "MEMO = {}\ndef f(x):\n    if x not in MEMO:\n        MEMO[x] = x * 2\n    return MEMO[x]\n" + step("f(4)")
        ),
        {"pipeline.py": ("MEMO = {}", "MEMO = {}  # remembers")},
    ),
    "logger": Case(
        program(
            "import logging\nLOG = logging.getLogger('a')\ndef f():\n    LOG.info('x')\n    return 1\n" + step("f()")
        ),
        {"pipeline.py": ("getLogger('a')", "getLogger('b')")},
    ),
}
