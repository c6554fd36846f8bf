"""What story.toml says, as a value; and months as texts. Standard library only."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The year that is played: its months, what arrives broken, whether the server is killed, the pace."""

    months: str = "2013-02..2013-12"
    break_month: str = ""
    breaks: tuple[str, ...] = ()
    kill: bool = True
    rate: float = 0.0


def months(text: str) -> list[str]:
    """`2013-02..2013-04`, or one month, as a list of months. Raises: ValueError for anything else."""
    first, _, last = text.partition("..")
    try:
        (year_a, month_a), (year_b, month_b) = (map(int, part.split("-")) for part in (first, last or first))
    except ValueError:
        raise ValueError(f"{text!r} is not a month such as 2013-02, or a range 2013-02..2013-04") from None
    if not (year_a == year_b == 2013 and 1 <= month_a <= month_b <= 12):
        raise ValueError(f"{text!r} is not within 2013-01..2013-12")
    return [f"2013-{month:02d}" for month in range(month_a, month_b + 1)]


def story(path: Path = HERE / "story.toml") -> Story:
    """The story of a file. Raises: ValueError for a key that is not known."""
    table = dict(tomllib.loads(path.read_text(encoding="utf-8")).get("story", {}))
    breaks = tuple(table.pop("break", ()))
    known = set(Story.__dataclass_fields__) - {"breaks"}
    if unknown := set(table) - known:
        raise ValueError(f"{path.name} has no key {min(unknown)!r}; it has {', '.join(sorted(known | {'break'}))}")
    return Story(breaks=breaks, **table)
