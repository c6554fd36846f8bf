"""Whether every `[schedule.NAME]` can be carried out, asked when a command opens the project; and what noria.toml
says of schedules by now, for processes that run for months."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping

from noria.config import CONFIG_NAME, Project, ScheduleConfig, load_project
from noria.core.errors import ConfigError
from noria.schedule import times

__all__ = ["ACTIONS", "PLACEHOLDERS", "Current", "declared", "near", "require"]

ACTIONS = ("run", "data add", "data check", "data watch")
"""What a schedule may do; the words of the command line."""
PLACEHOLDERS = ("date", "due", "end", "partition", "start")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_HOLE = re.compile(r"\{(\w*)\}")
_HALF = re.compile(r"\{\s*(?P<after>\w+)\s*\}?|(?P<before>\w+)\s*\}")

log = logging.getLogger("noria.schedule")


def declared(project: Project) -> Mapping[str, ScheduleConfig]:
    """The schedules of noria.toml as it lies there at this moment.

    A project that was opened without such a file keeps those that it was opened with.
    Raises: ConfigError if they cannot be read or carried out.
    """
    if not (project.root / CONFIG_NAME).is_file():
        return project.schedules
    found = load_project(project.root)
    require(found)
    return found.schedules


class Current:
    """The schedules of a project, read anew whenever noria.toml was written. Not safe between threads."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._schedules = project.schedules
        self._seen: tuple[int, ...] = ()

    def schedules(self) -> Mapping[str, ScheduleConfig]:
        """Those of now; while the file cannot be read, is gone or is wrong those of before, and the log says so."""
        try:
            found = (self._project.root / CONFIG_NAME).stat()
        except FileNotFoundError:
            return self._schedules  # an editor may be putting another in its place
        seen = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
        if seen != self._seen:
            self._seen = seen
            try:
                self._schedules = declared(self._project)
            except ConfigError as error:
                log.error("the schedules stay as they were: %s", error)
        return self._schedules


def require(project: Project) -> None:
    """Raises: ConfigError naming the file, the table, and what would be right."""
    for name, config in project.schedules.items():
        where = f"{project.root / CONFIG_NAME} [schedule.{name}]"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot name a schedule", where=where, hint="letters, digits, - and _")
        times.rule(config, where)
        _word("catch_up", config.catch_up, ("latest", "all", "none"), where)
        _word("overlap", config.overlap, ("skip", "queue", "allow"), where)
        _partitions(config, where)
        _actions(project, config, where)
        _holes(config, where)


def _word(key: str, value: str, known: Iterable[str], where: str) -> None:
    if value not in known:
        raise ConfigError(f'{key} is "{value}"', where=where, hint=near(value, known))


def _partitions(config: ScheduleConfig, where: str) -> None:
    for name in config.partitions:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"partition {name!r} is no name", where=where, hint="letters, digits, ., - and _")
    if len(set(config.partitions)) != len(config.partitions):
        raise ConfigError("a partition stands twice", where=where)


def _actions(project: Project, config: ScheduleConfig, where: str) -> None:
    if not config.do:
        raise ConfigError("do is empty", where=where, hint='do = "run"')
    for text in config.do:
        words = text.split()
        action = " ".join(words[:2]) if words[:1] == ["data"] else text
        if action not in ACTIONS:
            raise ConfigError(f"do has {text!r}", where=where, hint=near(text, ACTIONS))
        if action in ("data add", "data check") and len(words) != 3:
            raise ConfigError(f"do has {text!r}, without a data set", where=where, hint=f'do = "{action} NAME"')
        if action == "data add" and not _has_source(project, words[2]):
            raise ConfigError(
                f"do has {text!r}, and [data.{words[2]}] has no source", where=where, hint=near(words[2], project.data)
            )
    if config.params and "run" not in config.do:
        raise ConfigError('params are for runs, and do has no "run"', where=where)


def _has_source(project: Project, name: str) -> bool:
    return name in project.data and bool(project.data[name].source)


def _holes(config: ScheduleConfig, where: str) -> None:
    for key, value in config.params.items():
        if not isinstance(value, str):
            continue
        for name in _HOLE.findall(value):
            if name not in PLACEHOLDERS:
                raise ConfigError(f"params.{key} has {{{name}}}", where=where, hint=near(name, PLACEHOLDERS))
            if name == "partition" and not config.partitions:
                raise ConfigError(f"params.{key} has {{partition}}, and there are no partitions", where=where)
        for found in _HALF.finditer(_HOLE.sub("", value)):
            meant = difflib.get_close_matches(found["after"] or found["before"], PLACEHOLDERS, n=1, cutoff=0.6)
            if meant:  # else a brace is a brace: texts may be JSON
                text = f"params.{key} has {found[0].strip()!r}, a value of the tick with half of its braces"
                raise ConfigError(text, where=where, hint=f"{{{meant[0]}}}")


def near(name: str, known: Iterable[str]) -> str:
    """The nearest of some names, or all of them, as a hint."""
    names = sorted(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}?" if found else f"one of: {', '.join(names) or 'none'}"
