"""Over drawn programs: how code is written never changes a step's identity, what it computes always does.

A program is a tree of definitions, each with one number in it; a step adds up those that it can reach.
So what a change of a number does to the result is known without asking the fingerprint.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import Project
from noria.pipeline import sources
from noria.pipeline.code.fingerprint import Fingerprints
from noria.pipeline.code.ownership import Ownership
from noria.pipeline.define import load_pipeline
from noria.tracking.environment import Environment

ENVIRONMENT = Environment(
    python="3.11.0", implementation="CPython", system="Linux", machine="x86_64", packages={}, roots={}
)
CALLS = {
    "constant": "{}",
    "table": '{}["a"][0]',
    "filled": '{}["n"]',
    "listed": "sum({})",
    "enum": "{}.member.value",
    "dataclass": "{}().n",
    "helper": "{}(x)",
    "lambda": "{}(x)",
    "closure": "{}(x)",
    "decorated": "{}(x)",
    "default": "{}(x)",
    "keyword": "{}(x)",
    "conditional": "{}(x)",
    "generator": "next({}(x))",
    "partial": "{}(x)",
    "inner import": "{}(x)",
    "class": "{}().go(x)",
    "inherited": "{}().go(x)",
    "static": "{}.go(x)",
    "classmethod": "{}.go(x)",
    "property": "{}().go",
    "instance": "{}.go(x)",
    "by name": 'getattr({}(), "go")(x)',
    "dispatch": '{}["go"](x)',
}
VALUES = ("constant", "table", "filled", "listed", "enum", "dataclass", "partial")
IMPORTS = "import dataclasses, enum, functools"
MOST = 7


@dataclass(frozen=True, slots=True)
class Thing:
    """A definition: `number` is the one that it adds, `refs` are earlier ones that it uses too."""

    kind: str
    number: int
    refs: tuple[int, ...]
    is_far: bool
    """Whether it stands in the other module, which knows only its own definitions."""


@dataclass(frozen=True, slots=True)
class Program:
    """Definitions in order, which of them the step uses, and whether the other module is used as `helpers.NAME`."""

    things: tuple[Thing, ...]
    used: tuple[int, ...]
    is_dotted: bool

    def reached(self) -> set[int]:
        """The definitions that the step's result depends on."""
        found, queue = set(self.used), list(self.used)
        for index in queue:
            for ref in self.things[index].refs:
                if ref not in found:
                    found.add(ref)
                    queue.append(ref)
        return found

    def runs_the_other_module(self) -> bool:
        """Whether a function that is reached imports it and names nothing of it: all that it does may matter then."""
        return any(self.things[index].kind == "inner import" for index in self.reached())


@st.composite
def programs(draw: st.DrawFn) -> Program:
    things: list[Thing] = []
    for index in range(draw(st.integers(1, MOST))):
        kind, is_far = draw(st.sampled_from(sorted(CALLS))), draw(st.booleans())
        known = [at for at in range(index) if things[at].is_far or not is_far]
        if kind in VALUES:
            known = []  # they are values: nothing is called in them
        if kind == "inner import":
            is_far, known = False, [at for at in known if things[at].is_far]
        refs = draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        things.append(Thing(kind, draw(st.integers(1, 50)), tuple(sorted(refs)), is_far))
    used = draw(st.lists(st.sampled_from(range(len(things))), min_size=1, max_size=3, unique=True))
    return Program(tuple(things), tuple(sorted(used)), draw(st.booleans()))


class Writer:
    """Writes a program as source. With a seed it is written as somebody else would: same code, another look."""

    def __init__(self, program: Program, seed: int | None) -> None:
        self.program = program
        self.chance = random.Random(seed)
        self.is_plain = seed is None

    def files(self) -> dict[str, str]:
        """The two modules."""
        near = [IMPORTS, "import noria as nr", *self._imports()]
        near += [line for at, thing in enumerate(self.program.things) if not thing.is_far for line in self._lines(at)]
        total = " + ".join(self._use(at, is_far=False) for at in self.program.used)
        near += ["@nr.step", "def work(x: int = 3) -> int:", f"    return {total}"]
        near += ["@nr.pipeline", "def flow():", "    work()"]
        far = [IMPORTS]
        far += [line for at, thing in enumerate(self.program.things) if thing.is_far for line in self._lines(at)]
        return {"pipeline.py": self._styled(near), "helpers.py": self._styled(far)}

    def _imports(self) -> list[str]:
        names = [f"T{at}" for at, thing in enumerate(self.program.things) if thing.is_far]
        if not names:
            return []
        return ["import helpers"] if self.program.is_dotted else [f"from helpers import {', '.join(names)}"]

    def _use(self, at: int, *, is_far: bool, is_inside: bool = False) -> str:
        """How a definition is used: from the other module, from this one, or after an import inside."""
        thing = self.program.things[at]
        is_dotted = thing.is_far and not is_far and (self.program.is_dotted or is_inside)
        return CALLS[thing.kind].format(f"helpers.T{at}" if is_dotted else f"T{at}")

    def _lines(self, at: int) -> list[str]:
        thing, name = self.program.things[at], f"T{at}"
        is_inside = thing.kind == "inner import"
        rest = "".join(" + " + self._use(ref, is_far=thing.is_far, is_inside=is_inside) for ref in thing.refs)
        n = self._number(thing.number)
        written = {
            "constant": [f"{name} = {n}"],
            "table": [f'{name} = {{"a": ({n}, None), "b": [1.5, "é"]}}'],
            "helper": [f"def {name}(x):", f"    return x + {n}{rest}"],
            "lambda": [f"{name} = lambda x: x + {n}{rest}"],
            "closure": [
                f"def make_{name}(n):", "    def inner(x):", f"        return x + n{rest}", "    return inner",
                f"{name} = make_{name}({n})",
            ],
            "decorated": [
                f"def around_{name}(function):", "    @functools.wraps(function)", "    def outer(x):",
                f"        return function(x) + {n}", "    return outer",
                f"@around_{name}", f"def {name}(x):", f"    return x + 1{rest}",
            ],
            "conditional": [
                "if len('é') == 1:", f"    def {name}(x):", f"        return x + {n}{rest}",
                "else:", f"    {name} = None",
            ],
            "generator": [f"def {name}(x):", "    for i in range(1, 3):", f"        yield x + i * {n}{rest}"],
            "keyword": [f"def {name}(x, *, n={n}):", f"    return x + n{rest}"],
            "filled": [f"{name} = {{}}", f'{name}["n"] = {n}'],
            "listed": [f"{name} = []", "for i in range(3):", f"    {name}.append(i + {n})"],
            "enum": [f"class {name}(enum.Enum):", f"    member = {n}"],
            "dataclass": ["@dataclasses.dataclass", f"class {name}:", f"    n: int = {n}"],
            "class": [
                f"class {name}:", f"    number = {n}", "    def go(self, x):", f"        return x + self.number{rest}",
            ],
            "static": [f"class {name}:", "    @staticmethod", "    def go(x):", f"        return x + {n}{rest}"],
            "classmethod": [
                f"class {name}:", f"    number = {n}", "    @classmethod", "    def go(cls, x):",
                f"        return x + cls.number{rest}",
            ],
            "property": [
                f"class {name}:", "    @property", "    def go(self):", "        x = 2",
                f"        return x + {n}{rest}",
            ],
            "instance": [
                f"class Of{name}:", "    def __init__(self, n):", "        self.n = n", "    def go(self, x):",
                f"        return x + self.n{rest}", f"{name} = Of{name}({n})",
            ],
            "by name": [f"class {name}:", "    def go(self, x):", f"        return x + {n}{rest}"],
            "dispatch": [f"def in_{name}(x):", f"    return x + {n}{rest}", f'{name} = {{"go": in_{name}}}'],
            "inherited": [
                f"class Base{name}:", "    def go(self, x):", f"        return x + {n}{rest}",
                f"class {name}(Base{name}):", "    other = 1",
            ],
            "default": [f"def {name}(x, n={n}):", f"    return x + n{rest}"],
            "partial": [f"def of_{name}(n, x):", "    return x + n", f"{name} = functools.partial(of_{name}, {n})"],
            "inner import": [f"def {name}(x):", "    import helpers", f"    return x + {n}{rest}"],
        }  # fmt: skip
        return written[thing.kind]

    def _number(self, number: int) -> str:
        if self.is_plain:
            return str(number)
        return self.chance.choice([str(number), hex(number), f"({number})", f"0b{number:_b}"])

    def _styled(self, lines: Sequence[str]) -> str:
        return "\n".join(lines if self.is_plain else self._restyled(lines)) + "\n"

    def _restyled(self, lines: Sequence[str]) -> Iterator[str]:
        """The same code with other comments, docstrings, blank lines, quotes, brackets and spaces."""
        yield self.chance.choice(["", '"""What this module is about."""', "# -*- coding: utf-8 -*-"])
        for line in lines:
            indent = line[: len(line) - len(line.lstrip())]
            if self.chance.random() < 0.4:
                is_between = not lines[max(0, lines.index(line) - 1)].startswith("@")
                yield self.chance.choice([f"{indent}# about what follows", "", "" if is_between else f"{indent}#"])
            text = line[len(indent) :]
            if text.startswith("return ") and self.chance.random() < 0.5:
                terms = text.removeprefix("return ").split(" + ")
                text = "return (\n" + "\n".join(f"{indent}      {term} +" for term in terms).removesuffix(" +") + "\n)"
            elif self.chance.random() < 0.3:
                text = text.replace(" + ", "  +  ").replace('"a"', "'a'")
            yield indent + text + self.chance.choice(["", "", "  # so it is", "   "])
            if text.startswith(("def ", "class ")):
                inside = indent + "    "
                yield from self.chance.choice([[], [f'{inside}"""Says what it does."""'], [f"{inside}pass", ""]])
        unused = [] if self.program.runs_the_other_module() else ["def nobody_calls_it(x):", "    return x * 99"]
        yield from self.chance.choice([[], unused, ["# the end"]])


@contextmanager
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="noria-fingerprint-") as folder:
        yield Path(folder)


def look(root: Path, program: Program, seed: int | None = None) -> tuple[int, str]:
    """What the step gives, run without a cache, and its identity."""
    for name, text in Writer(program, seed).files().items():
        (root / name).write_text(text, encoding="utf-8")
    definition = load_pipeline(Project(name="t", root=root))
    (node,) = definition.nodes
    with sources.project_on_path(definition.root):
        identity = Fingerprints(definition.root, Ownership(definition.root, ENVIRONMENT)).code(node.step, {})
        assert identity.opaque == ()
        return node.step.function(), identity.digest


@settings(max_examples=80)
@given(programs(), st.integers(0, 2**32))
def test_comments_docstrings_and_formatting_never_change_the_identity(program: Program, seed: int) -> None:
    with project() as root:
        assert look(root, program) == look(root, program, seed)


@settings(max_examples=80)
@given(programs(), st.integers(1, 1000))
def test_a_changed_number_changes_the_identity_exactly_if_the_step_reaches_it(program: Program, by: int) -> None:
    with project() as root:
        result, identity = look(root, program)
        for at, thing in enumerate(program.things):
            changed = replace(thing, number=thing.number + by)
            after = replace(program, things=(*program.things[:at], changed, *program.things[at + 1 :]))
            now, new = look(root, after)
            is_reached = at in program.reached()
            assert (now != result) is is_reached, "the test's own arithmetic"
            if is_reached or not (thing.is_far and program.runs_the_other_module()):
                assert (new != identity) is is_reached, thing


@settings(max_examples=60)
@given(programs(), st.data())
def test_another_way_of_using_what_is_there_changes_the_identity(program: Program, data: st.DataObject) -> None:
    """A use more or a use less, in the step or in a definition that it reaches."""
    at = data.draw(st.sampled_from(sorted(program.reached())))
    thing = program.things[at]
    if thing.refs:
        changed = replace(thing, refs=thing.refs[1:])
        after = replace(program, things=(*program.things[:at], changed, *program.things[at + 1 :]))
    else:
        extra = Thing("helper", 5, (), is_far=False)
        after = replace(program, things=(*program.things, extra), used=(*program.used, len(program.things)))
    with project() as root:
        before, identity = look(root, program)
        now, new = look(root, after)
        assert now != before
        assert new != identity


@settings(max_examples=30)
@given(programs())
def test_the_identity_does_not_depend_on_where_the_project_lies(program: Program) -> None:
    with project() as one, project() as two:
        assert look(one, program) == look(two, program)
