"""Stores of Weights & Biases and of Aim: each read by the tool's own library, in an environment that has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from noria.catalog.takeover.documents import Store
from noria.core.errors import UsageError
from noria.engines.trackers.spilled import spill_with, store_of

__all__ = ["read_aim", "read_wandb"]


def read_wandb(store: Path, folder: Path, roots: Sequence[Path], *, python: str, env: Mapping[str, str]) -> Store:
    """Runs that Weights & Biases kept on disk.

    Args:
        store: a folder `wandb`, one that holds it, a run's folder or its file.
        folder: where to write it out; `roots` are folders in which files may be.
        python: the interpreter of an environment with wandb; "" for this one.
    Raises: UsageError if there is no run, or no wandb; StoreUnavailable.
    """
    patterns = ("run-*.wandb", "*/run-*.wandb", "wandb/*/run-*.wandb")
    if store.is_dir() and not any(True for pattern in patterns for _ in store.glob(pattern)):
        raise UsageError(
            f"{store} holds no run of Weights & Biases",
            hint="the folder wandb is named, with folders such as offline-run-20260301_101500-abc in it",
        )
    spill_with("wandb", "wandb_files", [str(store), str(folder), *map(str, roots)], python=python, env=env)
    return store_of(folder, str(store))


def read_aim(store: Path, folder: Path, roots: Sequence[Path], *, python: str, env: Mapping[str, str]) -> Store:
    """A repository of Aim's.

    Args:
        store: the folder that holds `.aim`, or `.aim` itself.
        folder: where to write it out; `roots` are folders in which files may be.
        python: the interpreter of an environment with aim; "" for this one.
    Raises: UsageError if it is no repository, or there is no aim; StoreUnavailable.
    """
    root = store.parent if store.name == ".aim" else store
    if not (root / ".aim").is_dir():
        raise UsageError(f"{root} holds no repository of Aim's", hint="the folder with .aim in it is named")
    spill_with("aim", "aim_repository", [str(root), str(folder), *map(str, roots)], python=python, env=env)
    return store_of(folder, str(root))
