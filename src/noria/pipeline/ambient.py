"""What a step may ask of its surroundings: the seed, and which columns are key, time and label.

The executor sets them around each step; in a test or a notebook nothing is set, and then a table's
own `attrs["noria"]` or the arguments say it. What a step asks for enters its cache key.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.clock import duration
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.pipeline.step import DatasetRole

if TYPE_CHECKING:
    from noria.pipeline.watching import watch as watching
else:
    watching = lazy("noria.pipeline.watching.watch")  # a step that is found in the cache is not watched

__all__ = ["Ambient", "Preempted", "around", "seed", "split_by_time", "surround", "surroundings", "xy"]

pd = lazy("pandas")
np = lazy("numpy")


@frozen
class Ambient:
    """The surroundings of one step: its seed, the data sets above it, nearest first, and which step of which run it is.

    `made_in` is `RUN/STEP`: what the step adds to the ledger names it; it is no part of any key.
    `key` is what its result is planned under, `is_shared` whether other runs may take that. `start` tells
    calls apart by their code and what they are given: where a generator that the project seeded begins.
    """

    seed: int
    roles: tuple[DatasetRole, ...] = ()
    made_in: str = ""
    key: str = ""
    is_shared: bool = True
    start: str = ""


class Preempted(BaseException):
    """The attempt was asked to leave, and has saved what it could. No failure: project code must not catch it."""


_AROUND: contextvars.ContextVar[Ambient | None] = contextvars.ContextVar("noria_ambient", default=None)


@contextlib.contextmanager
def around(ambient: Ambient) -> Iterator[None]:
    """Set the surroundings for the rest of the block."""
    token = _AROUND.set(ambient)
    try:
        yield
    finally:
        _AROUND.reset(token)


def surroundings() -> Ambient | None:
    """Those of the running step; None outside of one."""
    return _AROUND.get()


def surround(ambient: Ambient | None) -> None:
    """Set the surroundings for the rest of the process."""
    _AROUND.set(ambient)


def made_in() -> str:
    """`RUN/STEP` while a step runs, else ""."""
    ambient = _AROUND.get()
    return "" if ambient is None else ambient.made_in


def seed_of(project_seed: int, step: str) -> int:
    """A step's own seed, below 2**31: that of the project, mixed with the step's name."""
    mixed = hashlib.sha256(f"{project_seed}/{step}".encode()).digest()
    return int.from_bytes(mixed[:4], "big") >> 1


def seed() -> int:
    """The seed of the running step, below 2**31: the same in every run until `seed` in noria.toml changes.

    Outside a run it is 0.
    """
    ambient = _AROUND.get()
    watching.asked("seed")
    return 0 if ambient is None else ambient.seed


def xy(rows: Any, *, label: str = "", drop: Sequence[str] = ()) -> tuple[Any, Any]:
    """The inputs and the outcome of labelled rows, as a DataFrame and a Series of equal length.

    Rows without an outcome (null label) are left out of both. Key and time columns are no inputs.

    Args:
        rows: a pandas DataFrame, shape (n_rows, n_columns).
        label: the outcome's column; by default that of the nearest data set.
        drop: further columns that are no inputs.
    Raises: UsageError if no label is known, or the column is not there.
    """
    roles = _roles(rows)
    name = label or next((role.label for role in roles if role.label), "")
    if not name:
        raise UsageError("nr.xy knows no label for these rows", hint='nr.xy(rows, label="COLUMN")')
    if name not in rows.columns:
        raise UsageError(f"the rows have no column {name!r}, the label", hint=f"columns: {_some(rows)}")
    other = {column for role in roles for column in (role.key, role.time) if column}
    gone = [column for column in rows.columns if column == name or column in other or column in drop]
    known = rows[rows[name].notna()]
    outcome = known[name]
    if pd.api.types.is_extension_array_dtype(outcome.dtype) and pd.api.types.is_bool_dtype(outcome.dtype):
        outcome = outcome.astype("bool")
    elif pd.api.types.is_extension_array_dtype(outcome.dtype) and pd.api.types.is_integer_dtype(outcome.dtype):
        outcome = outcome.astype("int64")
    return known.drop(columns=gone), outcome


def split_by_time(rows: Any, holdout: str, *, time: str = "") -> tuple[Any, Any]:
    """Rows before, and within, the newest stretch of time (`28d`, `12h`): what to fit on, what to judge on.

    The stretch ends with the newest row. Rows without a time are in neither part.

    Args:
        rows: a pandas DataFrame; holdout: a duration; time: the column, by default the data set's.
    Raises: UsageError if no time column is known, or a part has no row.
    """
    name = time or next((role.time for role in _roles(rows) if role.time), "")
    if not name or name not in rows.columns:
        found = f"column {name!r} is not in the rows" if name else "no time column is known for these rows"
        raise UsageError(f"nr.split_by_time: {found}", hint='nr.split_by_time(rows, "28d", time="COLUMN")')
    try:
        length = duration(holdout)
    except ValueError as error:
        raise UsageError(f"nr.split_by_time: {error}") from error
    moments = rows[name]
    if not pd.api.types.is_datetime64_any_dtype(moments.dtype):
        moments = pd.to_datetime(moments, utc=True)
    edge = moments.max() - length
    before, after = rows[moments <= edge], rows[moments > edge]
    if not len(before) or not len(after):
        raise UsageError(
            f"a holdout of {holdout} leaves {len(before)} rows to fit on and {len(after)} to judge on",
            hint=f"the rows run from {moments.min()} to {moments.max()}",
        )
    return before, after


def _roles(rows: Any) -> tuple[DatasetRole, ...]:
    ambient = _AROUND.get()
    watching.asked("roles")
    if ambient is not None and ambient.roles:
        return ambient.roles
    noted = getattr(rows, "attrs", {}).get("noria", {})
    return (DatasetRole(**noted),) if noted else ()


def _some(rows: Any) -> str:
    return ", ".join(str(name) for name in list(rows.columns)[:12])
