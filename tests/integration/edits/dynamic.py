# ruff: noqa: E501  # each program is one text
"""What only shows at run time: computed names, plugins, monkey-patches, environment variables."""

from __future__ import annotations

from edits.case import Case, Scene, program, step

PLUGIN = "def run():\n    return {}\n"
BY_FILE = """
import importlib
from pathlib import Path
HERE = Path(__file__).parent

@nr.step
def work() -> object:
    name = (HERE / "which.txt").read_text().strip()
    return importlib.import_module(f"plugins.{name}").run()
"""
PLUGINS = program(BY_FILE, plugins____init__="", plugins__a=PLUGIN.format(1), plugins__b=PLUGIN.format(2))
PLUGINS["which.txt"] = "a\n"


def variable(name: str, before: str, after: str, files: dict[str, str]) -> Case:
    """An edit of an environment variable."""

    def prepare(scene: Scene) -> None:
        scene.setenv(name, before)

    def change(scene: Scene) -> None:
        scene.setenv(name, after)

    return Case(files, prepare=prepare, change=change)


def installed(scene: Scene) -> None:
    """A package that has been installed since, where the project's modules are."""
    folder = scene.root / "noria_plug-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: noria-plug\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[noria.test]\nfirst = somewhere:something\n")


def linked(scene: Scene) -> None:
    """A file becomes a link to a copy of itself."""
    (scene.root / "c.txt").rename(scene.root / "d.txt")
    (scene.root / "c.txt").symlink_to(scene.root / "d.txt")


PACK = {"pack____init__": "", "pack__a": "X = 1\nY = 1\n"}
FROM_PACK = {
    "attributes one after another": "import functools\n    import pack\n    return functools.reduce(getattr, ['a', 'X'], pack)",
    "attributes of attributes": "return getattr(getattr(pack, chr(97)), chr(88))",
    "a dotted attribute": "import operator\n    return operator.attrgetter('.'.join(['a', 'X']))(pack)",
    "pydoc.locate": "import pydoc\n    return pydoc.locate('pack.a.X')",
    "pydoc.locate of a text that is made": "import pydoc\n    return pydoc.locate('.'.join(['pack', 'a', 'X']))",
    "sys.modules in the step": "import sys\n    return sys.modules['pack.a'].X",
    "sys.modules in the step, by a text that is made": "import sys\n    return sys.modules['.'.join(['pack', 'a'])].X",
}


def from_pack(body: str) -> Case:
    """The edit of a constant that a step reaches by texts."""
    text = f"import pack\nfrom pack import a\n\n@nr.step\ndef work() -> object:\n    {body}\n"
    return Case(program(text, **PACK), {"pack/a.py": ("X = 1", "X = 2")})


CASES: dict[str, Case] = {
    **{f"{name} of a package": from_pack(body) for name, body in FROM_PACK.items()},
    "pydoc.locate, another constant": Case(
        program("import pydoc\nimport pack.a\n" + step("pydoc.locate('pack.a.X')"), **PACK),
        {"pack/a.py": ("Y = 1", "Y = 2")},
    ),
    "the width of the terminal": variable(
        "COLUMNS", "40", "90", program("import shutil\n" + step("shutil.get_terminal_size().columns"))
    ),
    "module that makes what it is asked for": Case(
        program(
            "import inner\n" + step("inner.impl.f()"),
            inner="import importlib\ndef __getattr__(name):\n    return importlib.import_module(name)\n",
            impl="def f():\n    return 1\n",
        ),
        {"impl.py": ("1", "2")},
    ),
    "whether a module can be found": Case(
        program("import importlib.util as u\n" + step("u.find_spec('.'.join(['noria_later'])) is None")),
        change=lambda scene: (scene.root / "noria_later.py").write_text("A = 1\n") and None,
    ),
    "a package of a version": Case(
        program(
            "import importlib.metadata as m\n\n@nr.step\ndef work() -> object:\n    try:\n"
            "        return m.version('-'.join(['noria', 'plug']))\n    except m.PackageNotFoundError:\n        return ''\n"
        ),
        change=installed,
    ),
    "a plugin by its entry point": Case(
        program(
            "import importlib.metadata as m\n" + step("sorted(e.name for e in m.entry_points(group='noria.test'))")
        ),
        change=installed,
    ),
    "names of environment variables": Case(
        program(
            "\n@nr.step\ndef work() -> object:\n    import os\n"
            "    return sorted(name for name in os.environ if name.startswith('APP_T'))\n"
        ),
        change=lambda scene: scene.setenv("APP_T_NEW", "1"),
    ),
    "environment variable as bytes": Case(
        program("import os\n" + step("os.environb.get(b'APP_T_RAW')")),
        change=lambda scene: scene.setenv("APP_T_RAW", "1"),
    ),
    "whether a file is a link": Case(
        program("import os\nfrom pathlib import Path\n" + step("os.path.islink(Path(__file__).parent / 'c.txt')"))
        | {"c.txt": "1"},
        change=linked,
    ),
    "getattr with a constant name": Case(
        program(
            "import inner\nNAME = 'f'\n" + step("getattr(inner, NAME)()"),
            inner="def f():\n    return 1\ndef g():\n    return 5\n",
        ),
        {"pipeline.py": ("NAME = 'f'", "NAME = 'g'")},
    ),
    "what getattr finds": Case(
        program("import inner\nNAME = 'f'\n" + step("getattr(inner, NAME)()"), inner="def f():\n    return 1\n"),
        {"inner.py": ("return 1", "return 2")},
    ),
    "what getattr does not find": Case(
        program(
            "import inner\nNAME = 'f'\n" + step("getattr(inner, NAME)()"),
            inner="def f():\n    return 1\ndef g():\n    return 5\n",
        ),
        {"inner.py": ("return 5", "return 6")},
    ),
    "getattr with a name from a file": Case(
        program(
            "import inner\nfrom pathlib import Path\n"
            + step("getattr(inner, Path(nr_path).read_text().strip())()").replace(
                "nr_path", "__file__.replace('pipeline.py', 'w.txt')"
            ),
            inner="def f():\n    return 1\ndef g():\n    return 5\n",
        )
        | {"w.txt": "f\n"},
        {"w.txt": ("f", "g")},
    ),
    "getattr on an object": Case(
        program("class A:\n    def go(self):\n        return 1\nNAME = 'go'\n" + step("getattr(A(), NAME)()")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "import_module with a constant name": Case(
        program(
            "import importlib\nNAME = 'inner'\n" + step("importlib.import_module(NAME).f()"),
            inner="def f():\n    return 1\n",
        ),
        {"inner.py": ("return 1", "return 2")},
    ),
    "import_module beside a module it does not import": Case(
        program(
            "import importlib\nNAME = 'inner'\n" + step("importlib.import_module(NAME).f()"),
            inner="def f():\n    return 1\n",
            other="def f():\n    return 3\n",
        ),
        {"other.py": ("return 3", "return 4")},
    ),
    "import_module with a parameter": Case(
        {
            "pipeline.py": "import importlib\nimport noria as nr\n\n@nr.step\ndef work(kind: str = 'a') -> object:\n"
            "    return importlib.import_module(f'plugins.{kind}').run()\n\n@nr.pipeline\ndef flow():\n    work()\n",
            "plugins/__init__.py": "",
            "plugins/a.py": PLUGIN.format(1),
            "plugins/b.py": PLUGIN.format(2),
        },
        {"plugins/a.py": ("return 1", "return 3")},
    ),
    "plugin named in a file": Case(PLUGINS, {"plugins/a.py": ("return 1", "return 3")}),
    "file that names the plugin": Case(PLUGINS, {"which.txt": ("a", "b")}),
    "plugin that is not named": Case(PLUGINS, {"plugins/b.py": ("return 2", "return 4")}),
    "helper of a plugin": Case(
        program(
            BY_FILE,
            plugins____init__="",
            plugins__a="from deep import g\ndef run():\n    return g()\n",
            deep="def g():\n    return 1\n",
        )
        | {"which.txt": "a\n"},
        {"deep.py": ("return 1", "return 2")},
    ),
    "constant of a plugin": Case(
        program(BY_FILE, plugins____init__="", plugins__a="RATE = 2\ndef run():\n    return RATE\n")
        | {"which.txt": "a\n"},
        {"plugins/a.py": ("RATE = 2", "RATE = 3")},
    ),
    "__import__ with a computed name": Case(
        program(
            "from pathlib import Path\nNAME = Path(__file__.replace('pipeline.py', 'w.txt')).read_text().strip()\n"
            + step("__import__(NAME).f()"),
            inner="def f():\n    return 1\n",
        )
        | {"w.txt": "inner\n"},
        {"inner.py": ("return 1", "return 2")},
    ),
    "sys.modules by name": Case(
        program("import sys\nimport inner\n" + step("sys.modules['inner'].f()"), inner="def f():\n    return 1\n"),
        {"inner.py": ("return 1", "return 2")},
    ),
    "name looked up in globals()": Case(
        program("def f():\n    return 1\n" + step("globals()['f']()")), {"pipeline.py": ("return 1", "return 2")}
    ),
    "eval of a text": Case(
        program("def f():\n    return 1\nTEXT = 'f()'\n" + step("eval(TEXT)")),
        {"pipeline.py": ("return 1", "return 2")},
    ),
    "all modules of a package": Case(
        program(
            "import importlib\nimport pkgutil\nimport plugins\n"
            + step(
                "[importlib.import_module(f'plugins.{m.name}').run() for m in pkgutil.iter_modules(plugins.__path__)]"
            ),
            plugins____init__="",
            plugins__a=PLUGIN.format(1),
        ),
        change=lambda scene: _write(scene, "plugins/c.py", PLUGIN.format(9)),
    ),
    "monkey-patch of a project's function": Case(
        program(
            "import inner\nimport patch\n" + step("inner.f()"),
            inner="def f():\n    return 1\n",
            patch="import inner\ndef g():\n    return 2\ninner.f = g\n",
        ),
        {"patch.py": ("return 2", "return 3")},
    ),
    "monkey-patch of a project's class": Case(
        program(
            "from inner import A\nimport patch\n" + step("A().go()"),
            inner="class A:\n    def go(self):\n        return 1\n",
            patch="import inner\ndef g(self):\n    return 2\ninner.A.go = g\n",
        ),
        {"patch.py": ("return 2", "return 3")},
    ),
    "monkey-patch that goes away": Case(
        program(
            "import inner\nimport patch\n" + step("inner.f()"),
            inner="def f():\n    return 1\n",
            patch="import inner\ndef g():\n    return 2\ninner.f = g\n",
        ),
        {"patch.py": ("inner.f = g", "")},
    ),
    "monkey-patch of a library's class": Case(
        program(
            "import fractions\ndef half(self):\n    return float(self) / 2\nfractions.Fraction.half = half\n"
            + step("fractions.Fraction(1, 3).half()")
        ),
        {"pipeline.py": ("/ 2", "/ 4")},
    ),
    "library's class patched in another module": Case(
        program(
            "import fractions\nimport patch\n" + step("fractions.Fraction(1, 3).half()"),
            patch="import fractions\nfrom amount import N\ndef half(self):\n    return float(self) / N\nfractions.Fraction.half = half\n",
            amount="N = 2\n",
        ),
        {"amount.py": ("N = 2", "N = 4")},
    ),
    "accessor of a library": Case(
        program(
            "import pandas as pd\nimport accessor\n" + step("int(pd.Series([1, 2]).mine.total())"),
            accessor="import pandas as pd\nimport warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('ignore')\n"
            "    @pd.api.extensions.register_series_accessor('mine')\n    class Mine:\n"
            "        def __init__(self, s):\n            self.s = s\n        def total(self):\n            return self.s.sum() + 1\n",
        ),
        {"accessor.py": ("sum() + 1", "sum() + 2")},
    ),
    "function that a library calls back": Case(
        program(
            "import json\nimport hooks\n" + step("json.dumps(hooks.Odd(), default=hooks.TO)"),
            hooks="class Odd:\n    pass\ndef to(x):\n    return 1\nTO = to\n",
        ),
        {"hooks.py": ("return 1", "return 2")},
    ),
    "docstring that is read": Case(
        program('def f():\n    """One."""\n' + step("f.__doc__")), {"pipeline.py": ("One.", "Two.")}
    ),
    "annotation that is read": Case(
        program("import typing\ndef f(x: int):\n    return x\n" + step("str(typing.get_type_hints(f))")),
        {"pipeline.py": ("x: int", "x: float")},
    ),
    "attribute made by a module's __getattr__": Case(
        program(
            "import inner\n" + step("inner.RATE"),
            inner="def __getattr__(name):\n    if name == 'RATE':\n        return 1\n    raise AttributeError(name)\n",
        ),
        {"inner.py": ("return 1", "return 2")},
    ),
    "module that may be absent": Case(
        program("try:\n    from fast import f\nexcept ImportError:\n    def f():\n        return 1\n" + step("f()")),
        change=lambda scene: _write(scene, "fast.py", "def f():\n    return 2\n"),
    ),
    "module that may be absent, asked in the step": Case(
        program(
            "\n@nr.step\ndef work() -> object:\n    try:\n        import fast\n    except ImportError:\n        return 1\n    return fast.f()\n"
        ),
        change=lambda scene: _write(scene, "fast.py", "def f():\n    return 2\n"),
    ),
    "environment variable by name": variable(
        "NORIA_TEST_RATE", "1", "2", program("import os\n" + step("os.environ['NORIA_TEST_RATE']"))
    ),
    "environment variable by getenv": variable(
        "NORIA_TEST_RATE", "1", "2", program("import os\nNAME = 'NORIA_TEST_RATE'\n" + step("os.getenv(NAME, '0')"))
    ),
    "environment variable by a computed name": variable(
        "NORIA_TEST_RATE",
        "1",
        "2",
        program("import os\n" + step("[os.environ.get(n) for n in ('NORIA_TEST_' + s for s in ['RATE'])]")),
    ),
    "environment variable that a package reads, declared": variable(
        "NORIA_TEST_ZONE",
        "UTC",
        "EST5EDT",
        program(
            "import time\n\n@nr.step(variables=['NORIA_TEST_ZONE'])\ndef work() -> object:\n    from reader import zone\n    return zone()\n",
            reader="import subprocess\ndef zone():\n    return subprocess.run(['printenv', 'NORIA_TEST_ZONE'], capture_output=True, text=True, check=False).stdout\n",
        ),
    ),
    "environment variable of nobody": variable(
        "NORIA_TEST_NOBODY", "1", "2", program("import os\n" + step("os.environ.get('NORIA_TEST_RATE')"))
    ),
}


def _write(scene: Scene, name: str, text: str) -> None:
    (scene.root / name).write_text(text, encoding="utf-8")
