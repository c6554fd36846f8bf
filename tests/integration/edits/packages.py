# each program is one text
"""Other distributions: upgraded ones, and those that are installed to be edited."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from edits.case import Case, Change, Scene, program, step

IMPORTED = program("import tinylib\n" + step("tinylib.rate() * 2"))
INSIDE = program("\n@nr.step\ndef work() -> object:\n    from tinylib import rate\n    return rate()\n")
BY_NAME = program(
    "import importlib\nfrom pathlib import Path\n"
    + step("importlib.import_module(Path(__file__).with_name('w.txt').read_text().strip()).rate()")
) | {"w.txt": "tinylib"}


def install(version: str, body: str) -> Change:
    """Put a wheel's content into a folder of packages: the package, and what pip writes beside it."""

    def change(scene: Scene) -> None:
        site = scene.outside / "lib" / "site-packages"
        for old in site.glob("tinylib*"):
            shutil.rmtree(old)
        (site / "tinylib").mkdir(parents=True)
        (site / "tinylib" / "__init__.py").write_text(f"def rate():\n    return {body}\n", encoding="utf-8")
        info = site / f"tinylib-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tinylib\nVersion: {version}\n", encoding="utf-8")
        (info / "RECORD").write_text(
            f"tinylib/__init__.py,,\ntinylib-{version}.dist-info/METADATA,,\n", encoding="utf-8"
        )
        on_path(scene, str(site))

    return change


def editable(body: str) -> Change:
    """A package that lies outside of the project and of every folder of packages, on the path."""

    def change(scene: Scene) -> None:
        place = scene.outside / "work" / "src" / "tinylib"
        place.mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").write_text("from tinylib.deep import rate\n", encoding="utf-8")
        (place / "deep.py").write_text(f"UNUSED = 1\n\ndef rate():\n    {body}\n", encoding="utf-8")
        on_path(scene, str(place.parent))

    return change


def by_hand(body: str, *, is_package: bool = False) -> Change:
    """Code that no distribution claims: somebody copied it into a folder of packages."""

    def change(scene: Scene) -> None:
        site = scene.outside / "lib" / "site-packages"
        place = site / "tinylib" / "__init__.py" if is_package else site / "tinylib.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"def rate():\n    return {body}\n", encoding="utf-8")
        shutil.rmtree(place.parent / "__pycache__", ignore_errors=True)  # Python believes in sizes and whole seconds
        on_path(scene, str(site))

    return change


def on_path(scene: Scene, folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)
    stamp = Path(folder).stat().st_mtime_ns + 1
    os.utime(folder, ns=(stamp, stamp))
    scene.forget("tinylib")


CASES: dict[str, Case] = {
    "package upgraded": Case(IMPORTED, prepare=install("1.0", "1"), change=install("2.0", "2")),
    "package upgraded, imported in the step": Case(INSIDE, prepare=install("1.0", "1"), change=install("2.0", "2")),
    "package upgraded, imported by a computed name": Case(
        BY_NAME, prepare=install("1.0", "1"), change=install("2.0", "2")
    ),
    "package installed again": Case(IMPORTED, prepare=install("1.0", "1"), change=install("1.0", "1")),
    "module copied by hand": Case(IMPORTED, prepare=by_hand("1"), change=by_hand("2")),
    "module copied by hand, imported in the step": Case(INSIDE, prepare=by_hand("1"), change=by_hand("2")),
    "module copied by hand, by a computed name": Case(BY_NAME, prepare=by_hand("1"), change=by_hand("2")),
    "package copied by hand": Case(
        IMPORTED, prepare=by_hand("1", is_package=True), change=by_hand("2", is_package=True)
    ),
    "module copied by hand again": Case(IMPORTED, prepare=by_hand("1"), change=by_hand("1")),
    "editable install": Case(IMPORTED, prepare=editable("return 1"), change=editable("return 2")),
    "editable install, imported in the step": Case(INSIDE, prepare=editable("return 1"), change=editable("return 2")),
    "editable install by a computed name": Case(BY_NAME, prepare=editable("return 1"), change=editable("return 2")),
    "comment in an editable install": Case(IMPORTED, prepare=editable("return 1"), change=editable("return 1  # one")),
}
