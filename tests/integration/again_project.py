"""A small project whose middle step is planted; it is run and done again by the commands, in processes of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import warm

CONFIG = '[project]\nname = "planted"\nseed = 7\n[data.sales]\nsource = "sales.csv"\n'
PIPELINE = '''"""Three steps: the middle one is planted."""
{imports}
import pyarrow as pa

import noria as nr

sales = nr.dataset("sales")
{module}

@nr.step
def before(rows: pa.Table) -> list:
    return [float(value) for value in rows["amount"].to_pylist()]


@nr.step{options}
def planted(values: list) -> {hint}:
{body}


@nr.step
def after(found: {hint}) -> str:
    return repr(found)


@nr.pipeline
def flow():
    after(planted(before(sales)))
'''
SETTINGS = ("TZ", "LC_ALL", "LANG", "PYTHONHASHSEED", "REGION", "PYTHONPATH")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_NUM_THREADS")


def environ(changes: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process: none that would decide a test beside those that it names."""
    kept = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, *THREADS)}
    return {
        **{name: value for name, value in kept.items() if not name.startswith("NORIA_")},
        "LC_ALL": "C.UTF-8",
        **changes,
    }


@dataclass(frozen=True)
class Planted:
    """The project in a folder."""

    root: Path

    def write(
        self,
        body: str,
        *,
        imports: str = "",
        module: str = "",
        hint: str = "object",
        options: str = "",
        config: str = "",
    ) -> None:
        """Write the project with this body of the middle step."""
        self.root.mkdir(exist_ok=True)
        lines = "\n".join(f"    {line}" if line.strip() else "" for line in body.strip("\n").splitlines())
        text = PIPELINE.format(imports=imports, module=module, body=lines, hint=hint, options=options)
        (self.root / "pipeline.py").write_text(text)
        (self.root / "noria.toml").write_text(CONFIG + config)
        rows = "\n".join(f"{number},{number * 1.25 + 0.1}" for number in range(40))
        (self.root / "sales.csv").write_text(f"id,amount\n{rows}\n")

    def noria(self, *words: str, code: int | None = 0, **changes: str) -> dict[str, Any]:
        """What a command says as JSON; its exit code must be the one given, if one is."""
        done = warm.noria(*words, "--json", cwd=self.root, env=environ(changes))
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def run(self, **changes: str) -> dict[str, Any]:
        """`noria run`."""
        return self.noria("run", **changes)

    def again(self, *words: str, code: int | None = 1, **changes: str) -> dict[str, Any]:
        """`noria reproduce`: 0 if it is the same, else 1."""
        return self.noria("reproduce", *words, code=code, **changes)

    def state(self) -> dict[str, bytes]:
        """Every file of the project, Noria's own too, by path."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
