"""Settings of other packages that a module of the project makes when it is imported, and small reads out of the way."""

from __future__ import annotations

import os
import sqlite3

from edits.case import Case, Scene, program, step

HERE = "from pathlib import Path\nHERE = Path(__file__).parent\n"
SCALED = """
import pandas as pd
import settings
from sklearn.preprocessing import StandardScaler

@nr.step
def work() -> object:
    return type(StandardScaler().fit_transform(pd.DataFrame({'a': [1.0, 2.0]}))).__name__
"""
WARNED = """
import warnings
import settings

@nr.step
def work() -> object:
    try:
        warnings.warn('x', stacklevel=1)
    except UserWarning:
        return 'raised'
    return 'fine'
"""


def link(scene: Scene, target: str) -> None:
    """Let a link of the project lead somewhere."""
    (scene.root / "link").unlink(missing_ok=True)
    (scene.root / "link").symlink_to(target)


def ignored(before: object) -> None:
    """What was there before is put back when the case is over."""


def deeper(scene: Scene) -> None:
    """One more file, two folders down."""
    (scene.root / "d/e/b.txt").write_text("1", encoding="utf-8")


def database(scene: Scene, value: int) -> None:
    """Write a database with one row."""
    with sqlite3.connect(scene.root / "d.db") as db:
        db.execute("drop table if exists t")
        db.execute("create table t (x int)")
        db.execute("insert into t values (?)", (value,))
    db.close()


def variable(name: str, text: str) -> Case:
    """A variable of the environment that another value is given to."""
    return Case(
        program(text),
        prepare=lambda scene: scene.setenv(name, "1"),
        change=lambda scene: scene.setenv(name, "2"),
    )


def setting(text: str, old: str, new: str, reader: str) -> Case:
    """A setting in settings.py, and a step of another module that it acts on."""
    return Case(program("import settings\n" + reader, settings=text), {"settings.py": (old, new)})


CASES: dict[str, Case] = {
    "configuration of a package": Case(
        program(SCALED, settings="import sklearn\nsklearn.set_config(transform_output='default')\n"),
        {"settings.py": ("'default'", "'pandas'")},
    ),
    "option of a package": setting(
        "import pandas as pd\nW = 5\npd.set_option('display.max_columns', W)\n",
        "W = 5",
        "W = 6",
        "import pandas as pd\n" + step("pd.get_option('display.max_columns')"),
    ),
    "option from a file that is closed again": Case(
        program(
            "import json\nimport pandas as pd\nwith open('conf.json') as file:\n"
            "    pd.set_option('display.max_columns', json.load(file)['columns'])\n"
            + step("pd.get_option('display.max_columns')")
        )
        | {"conf.json": '{"columns": 5}'},
        {"conf.json": ("5", "6")},
        prepare=lambda scene: os.chdir(scene.root),
    ),
    "precision of decimals": setting(
        "import decimal\ndecimal.getcontext().prec = 5\n",
        "= 5",
        "= 6",
        "from decimal import Decimal\n" + step("str(Decimal(1) / Decimal(3))"),
    ),
    "constant of a package, replaced": setting(
        "import string\nstring.digits = '01'\n", "'01'", "'012'", "import string\n" + step("''.join(string.digits)")
    ),
    "setting made two imports away": Case(
        program(
            "import pandas as pd\nimport outer\n" + step("pd.get_option('display.width')"),
            outer="import settings\n",
            settings="import pandas as pd\nif True:\n    pd.options.display.width = 70\n",
        ),
        {"settings.py": ("70", "71")},
    ),
    "filter of warnings": Case(
        program(WARNED, settings="import warnings\nwarnings.simplefilter('ignore')\n"),
        {"settings.py": ("'ignore'", "'error'")},
    ),
    "log level": setting("import logging\nlogging.getLogger('x').setLevel(10)\n", "10", "20", step("1")),
    "constant beside a setting": setting(
        "import pandas as pd\npd.set_option('display.width', 70)\nK = 1\n", "K = 1", "K = 2", step("1")
    ),
    "database by a URI": Case(
        program(
            "import sqlite3\n"
            + HERE
            + "\n@nr.step\ndef work() -> object:\n    db = sqlite3.connect(f'file:{HERE}/d.db?mode=ro', uri=True)\n"
            "    try:\n        return db.execute('select x from t').fetchall()\n    finally:\n        db.close()\n"
        ),
        prepare=lambda scene: database(scene, 1),
        change=lambda scene: database(scene, 2),
    ),
    "variable in a path": variable("NORIA_TEST_PART", "import os\n" + step("os.path.expandvars('$NORIA_TEST_PART')")),
    "permission that is asked for": Case(
        program("import os\n" + HERE + step("os.access(HERE / 'c.txt', os.X_OK)")) | {"c.txt": "1"},
        change=lambda scene: os.chmod(scene.root / "c.txt", 0o755),  # noqa: PTH101
    ),
    "rights of a file": Case(
        program("import os\n" + HERE + step("oct(os.stat(HERE / 'c.txt').st_mode)")) | {"c.txt": "1"},
        prepare=lambda scene: os.chmod(scene.root / "c.txt", 0o600),  # noqa: PTH101
        change=lambda scene: os.chmod(scene.root / "c.txt", 0o640),  # noqa: PTH101
    ),
    "time of a folder": Case(
        program("import os\n" + HERE + step("os.stat(HERE / 'd').st_mtime")) | {"d/e/a.txt": "1"},
        change=lambda scene: os.utime(scene.root / "d", (1, 2)),
    ),
    "extended attribute of a file": Case(
        program("import os\n" + HERE + step("os.getxattr(str(HERE) + '/c.txt', 'user.n').decode()")) | {"c.txt": "1"},
        prepare=lambda scene: os.setxattr(scene.root / "c.txt", "user.n", b"1"),
        change=lambda scene: os.setxattr(scene.root / "c.txt", "user.n", b"2"),
    ),
    "mask of new files": Case(
        program(
            "import os\n\n@nr.step\ndef work() -> object:\n"
            "    mask = os.umask(0)\n    os.umask(mask)\n    return mask\n"
        ),
        prepare=lambda scene: ignored(os.umask(0o022)),
        change=lambda scene: ignored(os.umask(0o077)),
    ),
    "where a link leads": Case(
        program("import os\n" + HERE + step("os.readlink(str(HERE) + '/link')")),
        prepare=lambda scene: link(scene, "a"),
        change=lambda scene: link(scene, "b"),
    ),
    "folder walked by descriptors": Case(
        program("import os\n" + HERE + step("sorted(n for _, _, names, _ in os.fwalk(str(HERE / 'd')) for n in names)"))
        | {"d/e/a.txt": "1"},
        change=deeper,
    ),
    "file opened in a folder's descriptor": Case(
        program(
            "import os\n" + HERE + "\n@nr.step\ndef work() -> object:\n    folder = os.open(str(HERE), os.O_RDONLY)\n"
            "    return os.read(os.open('.'.join(['c', 'txt']), os.O_RDONLY, dir_fd=folder), 10).decode()\n"
        )
        | {"c.txt": "1"},
        {"c.txt": ("1", "2")},
    ),
}
