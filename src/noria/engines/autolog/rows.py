"""Rows that an estimator was given, as a small table that says what it takes: whatever library holds them."""

from __future__ import annotations

from typing import Any

__all__ = ["bytes_of", "columns_of", "count_of", "sample", "width_of"]


def count_of(rows: Any) -> int | None:
    """How many rows there are; None for what is no table."""
    shape = getattr(rows, "shape", None)
    if shape is not None and len(shape) >= 1:
        return int(shape[0])
    return len(rows) if isinstance(rows, (list, tuple)) else None


def width_of(rows: Any) -> int | None:
    """How many columns there are; None for what is not two-dimensional."""
    shape = getattr(rows, "shape", None)
    return int(shape[1]) if shape is not None and len(shape) == 2 else None


def bytes_of(rows: Any) -> int:
    """About how much memory they take, without what texts and other objects in them hold."""
    size = getattr(rows, "nbytes", None)
    if isinstance(size, int):
        return size
    if hasattr(rows, "memory_usage"):
        used = rows.memory_usage(index=False)
        return int(used.sum() if hasattr(used, "sum") else used)
    return 8 * (count_of(rows) or 0) * (width_of(rows) or 1)


def columns_of(rows: Any) -> list[str]:
    """The names of the columns; empty where they have none."""
    names = getattr(rows, "columns", None)
    return [str(name) for name in names][:1000] if names is not None else []


def sample(rows: Any, most: int) -> Any:
    """At most so many rows, evenly spread, as a DataFrame or an array of their own; None for what is no table."""
    total = count_of(rows)
    if rows is None or total is None or (width_of(rows) is None and getattr(rows, "ndim", 1) != 1):
        return None
    step = max(1, -(-total // most))
    if hasattr(rows, "iloc"):
        return rows.iloc[::step].copy()
    if hasattr(rows, "to_pandas") and hasattr(rows, "columns"):
        return rows[::step].to_pandas()
    if hasattr(rows, "detach"):
        return rows.detach()[::step].cpu().numpy().copy()
    if hasattr(rows, "toarray"):
        return rows.tocsr()[::step].toarray() if (width_of(rows) or 0) <= 1000 else None
    if isinstance(rows, (list, tuple)):
        return list(rows[::step])
    if hasattr(rows, "__array__"):
        return rows[::step].copy() if hasattr(rows, "copy") else rows[::step]
    return None
