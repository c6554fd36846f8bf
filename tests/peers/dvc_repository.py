"""A real DVC repository, made by the real dvc from its own environment."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DVC = ROOT / ".venv-peers" / "dvc" / "bin" / "dvc"


def environment() -> dict[str, str]:
    """What dvc and git need, and nothing of the caller's git."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_", "NORIA_"))}
    author = {f"GIT_{who}_{what}": "ann@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**kept, **author, "DVC_NO_ANALYTICS": "1", "PATH": f"{DVC.parent}:{os.environ['PATH']}"}


def run(folder: Path, *words: str | Path, code: int | None = 0, env: Mapping[str, str] | None = None) -> str:
    """Run a command and give what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**environment(), **(env or {})},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def dvc(folder: Path, *words: str | Path, code: int | None = 0) -> str:
    """Run dvc. Fails naming `make peers` if it is not installed."""
    assert DVC.is_file(), "dvc is not installed: make peers"
    return run(folder, DVC, *words, code=code)


def commit(folder: Path, message: str) -> None:
    """Commit everything."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


def make(folder: Path, remote: str = "") -> Path:
    """Three commits: a table in two versions, a folder, a text with DOS line ends, a stage with a metric, odd names."""
    folder.mkdir(parents=True)
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    dvc(folder, "init", "--quiet")
    data = folder / "data"
    (data / "images" / "deep").mkdir(parents=True)
    (data / "prices.csv").write_text("id,price\n1,2.5\n2,3.5\n")
    for number in range(5):
        (data / "images" / f"{number}.png").write_bytes(bytes([number]) * 5000)
    (data / "images" / "deep" / ".hidden").write_bytes(b"hidden")
    (data / "images" / "deep" / "größe #1: x.txt").write_text("odd")
    (folder / "notes.txt").write_bytes(b"one\r\ntwo\r\n")
    dvc(folder, "add", "--quiet", "data/prices.csv", "data/images", "notes.txt")
    if remote:
        dvc(folder, "remote", "add", "--quiet", "--default", "store", remote)
    commit(folder, "first")
    (data / "prices.csv").write_text("id,price\n1,2.5\n2,3.5\n3,4.5\n")
    dvc(folder, "add", "--quiet", "data/prices.csv")
    commit(folder, "more prices")
    (folder / "dvc.yaml").write_text(
        """stages:
  count-all:
    cmd: wc -l < data/prices.csv > count.txt && cp data/prices.csv "a copy.csv" && echo '{"n":3}' > m.json
    deps:
    - data/prices.csv
    outs:
    - count.txt
    - a copy.csv
    metrics:
    - m.json:
        cache: false
"""
    )
    dvc(folder, "repro", "--quiet")
    commit(folder, "a stage")
    return folder


def as_version_2(folder: Path) -> None:
    """Turn the cache and the `.dvc` files into what DVC 2 wrote.

    No `hash`, objects right below the cache, and text named by its md5 with Unix line ends.
    """
    cache = folder / ".dvc" / "cache"
    for old in sorted((cache / "files" / "md5").iterdir()):
        old.rename(cache / old.name)
    (cache / "files" / "md5").rmdir()
    (cache / "files").rmdir()
    text = (folder / "notes.txt").read_bytes()
    was, now = _md5(text), _md5(text.replace(b"\r\n", b"\n"))
    (cache / now[:2]).mkdir(exist_ok=True)
    (cache / was[:2] / was[2:]).rename(cache / now[:2] / now[2:])
    for file in [*folder.rglob("*.dvc"), folder / "dvc.lock"]:
        if file.is_file():
            lines = file.read_text().replace(was, now).splitlines(keepends=True)
            file.write_text("".join(line for line in lines if line.strip() != "hash: md5"))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
