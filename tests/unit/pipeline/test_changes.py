"""What `noria why` names of an edit: the helper, the class, the attribute, the constant, and the lines."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path

import pytest

from noria.config import Project
from noria.engines.objects.file import FileObjects
from noria.pipeline import sources
from noria.pipeline.caching import documents
from noria.pipeline.caching.changes import Change, changes
from noria.pipeline.caching.documents import KeyDocument
from noria.pipeline.code.confidential import HIDDEN, without_secrets
from noria.pipeline.code.fingerprint import Fingerprints
from noria.pipeline.code.ownership import Ownership
from noria.pipeline.code.rendering import LIMIT, rendered
from noria.pipeline.define import load_pipeline
from noria.store.objects import Objects
from noria.tracking.environment import Environment

ENVIRONMENT = Environment(
    python="3.11.0", implementation="CPython", system="Linux", machine="x86_64", packages={}, roots={}
)
HEAD = "import noria as nr\n"
TAIL = "\n@nr.step\ndef work() -> object:\n    return {}\n\n@nr.pipeline\ndef flow():\n    work()\n"


def document(root: Path, text: str, value: str) -> KeyDocument:
    """What the key of the step `work` is computed from, as far as it is code."""
    root.mkdir(exist_ok=True)
    (root / "pipeline.py").write_text(HEAD + textwrap.dedent(text) + TAIL.format(value), encoding="utf-8")
    definition = load_pipeline(Project(name="t", root=root))
    with sources.project_on_path(definition.root):
        code = Fingerprints(definition.root, Ownership(definition.root, ENVIRONMENT)).code(
            definition.nodes[-1].step, {}
        )
    return KeyDocument("", {"code": code.digest, "names": dict(code.names), "links": code.links}, code.shown)


@pytest.mark.parametrize(
    ("before", "after", "value", "what", "how"),
    [
        (
            "class K:\n    pass\nK.v = 5\n",
            "class K:\n    pass\nK.v = 6\n",
            "K.v",
            "attribute K.v",
            "5 -> 6",
        ),
        (
            "def h(x, k=3):\n    return x * k\n",
            "def h(x, k=4):\n    return x * k\n",
            "h(2)",
            "defaults of helper h",
            "{'k': 3} -> {'k': 4}",
        ),
        (
            "import functools\ndef h(x, y):\n    return x\ng = functools.partial(h, y=3)\n",
            "import functools\ndef h(x, y):\n    return x\ng = functools.partial(h, y=4)\n",
            "g(1)",
            "constant g",
            "functools.partial(<function h>, y=3) -> functools.partial(<function h>, y=4)",
        ),
    ],
    ids=["attribute", "default", "partial"],
)
def test_a_value_is_named_with_what_it_was_and_is(
    before: str, after: str, value: str, what: str, how: str, tmp_path: Path
) -> None:
    found = changes(document(tmp_path, before, value), document(tmp_path, after, value))
    assert Change(what=what, how=how) in found


@pytest.mark.parametrize(
    ("value", "before", "after"),
    [
        ("h.__doc__", '    """one"""', '    """two"""'),
        ("inspect.getsource(h)", "    # c", "    # d"),
    ],
)
def test_what_only_a_look_at_its_text_sees_is_named_with_its_lines(
    value: str, before: str, after: str, tmp_path: Path
) -> None:
    text = "import inspect\ndef h():\n{}\n    return 1\n"
    found = changes(document(tmp_path, text.format(before), value), document(tmp_path, text.format(after), value))
    (change,) = (each for each in found if each.what == "helper h")
    assert {f"-{before}", f"+{after}"} <= set(change.lines)


def test_annotations_that_are_read_are_named_with_their_lines(tmp_path: Path) -> None:
    text = "import typing\ndef h(x: {}):\n    return x\n"
    value = "str(typing.get_type_hints(h))"
    found = changes(document(tmp_path, text.format("int"), value), document(tmp_path, text.format("str"), value))
    (change,) = found
    assert (change.what, change.lines) == ("helper h", ("-def h(x: int):", "+def h(x: str):", "     return x"))


SINGLE = (
    "import functools\n@functools.singledispatch\ndef h(x):\n    return 0\n@h.register\ndef _(x: {}):\n    return 1\n"
)
TWO = "def p(x):\n    return x\ndef q(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("before", "after", "value", "what", "how", "line"),
    [
        (
            SINGLE.format("int"),
            SINGLE.format("float"),
            "h(1)",
            "annotations of helper _",
            "changed",
            "+def _(x: float):",
        ),
        (
            "def h(x):\n    from math import sin as f\n    return f(x)\n",
            "def h(x):\n    from math import cos as f\n    return f(x)\n",
            "h(1)",
            "import f in helper h",
            "math.sin -> math.cos",
            "+    from math import cos as f",
        ),
        (f"{TWO}h, g = p, q\n", f"{TWO}h, g = q, p\n", "h(1) + g(2)", "h in step work", "helper p -> helper q", ""),
        (
            "import collections\nX = collections.UserDict\nclass h(X):\n    pass\n",
            "import collections\nX = collections.UserList\nclass h(X):\n    pass\n",
            "h()",
            "X in class h",
            "collections.UserDict -> collections.UserList",
            "",
        ),
        ("L = [1]\nM = L\n", "L = [1]\nM = [1]\n", "(L, M)", "M in step work", "changed", ""),
    ],
    ids=["annotation", "import", "swapped", "base", "shared list"],
)
def test_what_only_leads_elsewhere_is_named(
    before: str, after: str, value: str, what: str, how: str, line: str, tmp_path: Path
) -> None:
    found = changes(document(tmp_path, before, value), document(tmp_path, after, value))
    (change,) = (each for each in found if each.what == what)
    assert change.how == how
    assert line in change.lines or not line
    assert all(each.what != "code" for each in found)


def test_of_a_dataclass_only_the_class_is_named(tmp_path: Path) -> None:
    text = "import dataclasses\n@dataclasses.dataclass(order=True)\nclass C:\n    {}: int\n    {}: int\n"
    value = "C(1, 2) < C(2, 1)"
    found = changes(document(tmp_path, text.format("a", "b"), value), document(tmp_path, text.format("b", "a"), value))
    assert [each.what for each in found] == ["attribute C.__match_args__", "class C"]


def test_a_level_that_a_step_asks_for_is_named(tmp_path: Path) -> None:
    for name in ("sqlalchemy", "psycopg"):
        assert logging.getLogger(name).level in (logging.NOTSET, logging.WARNING)
        logging.getLogger(name).setLevel(logging.WARNING)  # as its import does, which may come at any time
    text = "import logging\nX = logging.getLogger('changes.x')\nX.setLevel({})\n"
    found = changes(document(tmp_path, text.format(10), "X.level"), document(tmp_path, text.format(30), "X.level"))
    (change,) = (each for each in found if each.what == "levels of loggers")
    told = "\n".join([change.how, *change.lines])  # beside the loggers that others in this process have set, if any
    assert "['changes.x', 10, False, True]" in told
    assert "['changes.x', 30, False, True]" in told


ENTRIES = "\n".join(f"    'key{number}': {number}," for number in range(120))
QUERY = 'X = """\nselect a\nfrom orders\nwhere y < {}\ngroup by 1\n"""\n'


@pytest.mark.parametrize(
    ("text", "old", "new", "lines"),
    [
        (
            f"X = {{\n{ENTRIES}\n}}\n",
            "'key50': 50,",
            "'key50': 51,",
            ("     'key49': 49", "-    'key50': 50", "+    'key50': 51", "     'key51': 51"),
        ),
        (
            QUERY,
            "y < {}",
            "y < 3",
            (" from orders", "-where y < {}", "+where y < 3", " group by 1"),
        ),
        (
            "X = [*range(100), 'one', *range(100)]\n",
            "'one'",
            "'two'",
            ("     99", "-    'one'", "+    'two'", "     0"),
        ),
        (
            "X = {'rates': [*range(60)], 'query': 'select a\\nfrom b\\nwhere c'}\n",
            "from b",
            "from d",
            ("         select a", "-        from b", "+        from d", "         where c"),
        ),
        (
            "import dataclasses\n@dataclasses.dataclass\nclass C:\n    names: list\n    rate: int\n"
            "X = C([str(each) for each in range(80)], 5)\n",
            ", 5)",
            ", 6)",
            ("     ]", "-    rate=5", "+    rate=6", " )"),
        ),
    ],
    ids=["dict", "text", "list", "nested", "dataclass"],
)
def test_a_long_value_is_shown_by_the_lines_that_differ(
    text: str, old: str, new: str, lines: tuple[str, ...], tmp_path: Path
) -> None:
    found = changes(document(tmp_path, text, "X"), document(tmp_path, text.replace(old, new), "X"))
    assert [(each.what, each.how, each.lines) for each in found if each.what == "constant X"] == [
        ("constant X", "changed", lines)
    ]


def test_of_a_long_line_the_part_that_differs_is_shown(tmp_path: Path) -> None:
    text = "X = ' '.join(map(str, range(200))) + ' {} ' + ' '.join(map(str, range(200)))\n"
    found = changes(document(tmp_path, text.format("one"), "X"), document(tmp_path, text.format("two"), "X"))
    (change,) = found
    assert [len(line) <= 160 for line in change.lines] == [True, True]
    assert " one 0 1" in change.lines[0]
    assert " two 0 1" in change.lines[1]


def test_what_a_function_closes_over_is_named_with_the_function_and_how_it_was_reached(tmp_path: Path) -> None:
    text = "def make(t):\n    def above(x):\n        return x > t\n    return above\nABOVE = make({})\n"
    found = changes(document(tmp_path, text.format(5), "ABOVE(6)"), document(tmp_path, text.format(50), "ABOVE(6)"))
    assert found == [Change(what="closure variable t of make.<locals>.above (ABOVE)", how="5 -> 50")]


def test_what_a_class_closes_over_is_named_with_the_class(tmp_path: Path) -> None:
    text = "def make(t):\n    class C:\n        def go(self):\n            return t\n    return C\nK = make({})\n"
    found = changes(document(tmp_path, text.format(5), "K().go()"), document(tmp_path, text.format(50), "K().go()"))
    assert Change(what="closure variable t of make.<locals>.C", how="5 -> 50") in found


def test_code_without_a_module_is_named_by_what_holds_it(tmp_path: Path) -> None:
    text = "import jinja2\nX = jinja2.Template('hi {{{{ x }}}} ' + '{}')\n"
    value = "X.render(x=1)"
    found = changes(document(tmp_path, text.format("one"), value), document(tmp_path, text.format("two"), value))
    assert [each.what for each in found] == ["code in constant X"]


SECRETS = {
    "by its name": "API_KEY = 'correct-horse'\nX = API_KEY\n",
    "entry": "X = {'host': 'db', 'password': 'correct-horse'}\n",
    "entry of a long table": f"X = {{\n{ENTRIES}\n'db': {{'password': 'correct-horse'}}}}\n",
    "attribute": "class K:\n    pass\nK.token = 'correct-horse'\nX = K\n",
    "argument": "def connect(password='correct-horse'):\n    return password\nX = connect\n",
    "address": "X = 'postgresql://me:correct-horse@db/sales'\n",
    "pairs": "X = 'host=db user=me password=correct-horse'\n",
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass C:\n    user: str\n    password: str\n"
    "X = C('me', 'correct-' + 'horse')\n",
    "kind": "X = ['ghp_' + 'correcthorse' * 3, 'AKIA' + 'ABCDEFGH' * 2]\n",
    "random": "X = 'correcthorseBatteryStaple' + '0123456789/+A='\n",
    "key": "X = '-----BEGIN PRIVATE KEY-----\\ncorrect\\nhorse\\n-----END PRIVATE KEY-----\\n'\n",
    "variable": "import os\nX = 'mongo ' + os.environ['SHOP_PASSWORD']\n",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_what_looks_like_a_secret_is_in_no_document(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "correct horse battery")
    objects = Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")
    made = document(tmp_path / "p", text, "X" if "API_KEY" not in text else "API_KEY")
    name = documents.write(objects, {"work": made})
    stored = objects.get_bytes(name).decode()
    assert HIDDEN in stored
    assert not [word for word in ("correct", "AKIA") if word in stored]


def test_a_secret_that_changed_is_said_to_have_changed(tmp_path: Path) -> None:
    objects = Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")
    both = [document(tmp_path / "p", f"API_KEY = '{value}'\n", "API_KEY") for value in ("one", "two")]
    kept = [documents.read(objects, documents.write(objects, {"work": each}), "work") for each in both]
    (change,) = changes(*kept)
    assert (change.what, change.how) == (
        "constant API_KEY",
        "changed in what looks like a secret, which is not kept",
    )


@pytest.mark.parametrize(
    "text",
    [
        "MAX_TOKENS = 512",
        "TOKENIZER = 'bert-base-uncased'",
        "SHA = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
        "URL = 'https://host:8080/path/to/file'",
        "FLAG = password == 'x'",
        "connect(password=PASSWORD)",
        "KEYS = {'key': 'value', 'keyboard': 'x'}",
        "PATH = '/data/projects/churn_model_version_2024_01_final.parquet'",
    ],
)
def test_ordinary_code_is_kept_as_it_is(text: str) -> None:
    assert without_secrets(text, is_code=True) == text


def test_code_is_kept_before_values_where_there_is_not_room_for_both(tmp_path: Path) -> None:
    objects = Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")
    shown = {f"constant c{number}": f"{number} " * 10_000 for number in range(40)} | {"step work": "def work(): ..."}
    name = documents.write(objects, {"work": KeyDocument("", {}, shown)})
    kept = documents.read(objects, name, "work").shown
    assert kept["step work"] == "def work(): ..."
    assert 15 <= len(kept) < 40


def test_a_value_that_holds_itself_has_a_text() -> None:
    value: list[object] = [*range(60)]
    value.append(value)
    assert rendered(value).splitlines()[-2:] == ["    ...", "]"]


def test_the_text_of_a_huge_value_is_cut() -> None:
    assert len(rendered([*range(1_000_000)])) == LIMIT
    assert rendered({"a": 1}) == "{'a': 1}"
    assert rendered((1,)) == "(1,)"
    assert rendered(10**5000) == "<int>"
