"""Bars for long work on a terminal: how far it is, how fast it goes, and how long it will still take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import ProgressColumn as Column
from rich.text import Text

from noria.core.progress import Advance, shown

__all__ = ["bars"]


@contextlib.contextmanager
def bars(words: str, console: Console | None = None) -> Iterator[None]:
    """Show the tasks of the block below a line with the elapsed time; all of it goes away at the end."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        _Bar(),
        _Amount(),
        _Rate(),
        _Left(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as progress:
        progress.add_task(words, total=None, unit="")
        with shown(_Bars(progress)):
            yield


class _Bars:
    """Puts each task into the display, and takes it out when it is over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[Advance, TaskID] = {}

    def begin(self, words: str, total: int | None, unit: str) -> Advance:
        """A bar for a task."""
        number = self._progress.add_task(words, total=total, unit=unit)

        def advance(done: int) -> None:
            self._progress.advance(number, done)

        self._tasks[advance] = number
        return advance

    def end(self, advance: Advance) -> None:
        """The bar goes."""
        self._progress.remove_task(self._tasks.pop(advance))


class _Bar(Column):
    """A bar; a line without an amount has none."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = BarColumn(bar_width=24)

    def render(self, task: Task) -> RenderableType:
        """The bar of one task."""
        return self._bar.render(task) if task.fields["unit"] else Text("")


class _Amount(Column):
    """What is done, of how much."""

    def render(self, task: Task) -> Text:
        if not task.fields["unit"]:
            return Text("")
        done = _amount(task.completed, task)
        return Text(f"{done} of {_amount(task.total, task)}" if task.total is not None else done)


class _Rate(Column):
    """How much a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_amount(speed, task)}/s" if task.fields["unit"] and speed else "")


class _Left(Column):
    """How long the rest will take at this rate."""

    def render(self, task: Task) -> Text:
        seconds = task.time_remaining
        if not task.fields["unit"] or task.total is None or seconds is None:
            return Text("")
        minutes, rest = divmod(int(seconds), 60)
        return Text(
            f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} left" if minutes >= 60 else f"{minutes}:{rest:02d} left"
        )


def _amount(value: float, task: Task) -> str:
    unit = str(task.fields["unit"])
    return decimal(int(value)) if unit == "B" else f"{int(value):,} {unit}"
