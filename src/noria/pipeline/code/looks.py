"""What code looks at beside what its names lead to: its own text, the subclasses of a class, levels of loggers.

Told by the words that are written in it. Most code asks for none of these, and then an edit of a docstring, a
new subclass or another level of a logger does not make its step run again.
"""

from __future__ import annotations

from collections.abc import Set

from noria.core.identity import JSON
from noria.core.lazy import lazy

__all__ = ["Looks"]

logging = lazy("logging")

_TEXT_READERS = frozenset(
    {"__doc__", "getsource", "getsourcelines", "getdoc", "getcomments", "__annotations__", "get_annotations"}
    | {"get_type_hints", "signature", "getfullargspec", "__name__", "__qualname__", "__code__"}
)
_TEXT_FUNCTIONS = frozenset(
    {f"inspect.{name}" for name in _TEXT_READERS} | {"typing.get_type_hints", "functools.singledispatch"}
)
_LEVEL_READERS = frozenset({"isEnabledFor", "getEffectiveLevel"})
_OF_LOGGERS = frozenset({"level", "disabled", "propagate"})
"""Other things have such attributes too, so they count where logging is used at all. Handlers do not: libraries and
whoever shows a run put them there."""

_WARN_BY_THEMSELVES = frozenset({"root", "sqlalchemy", "psycopg"})
"""Loggers whose level is WARNING when the project sets none; libraries set theirs when Noria first needs them."""


class Looks:
    """What the code of one step was found to look at, so far."""

    def __init__(self) -> None:
        self.at_text = False
        self.at_subclasses = False
        self.at_any_attribute = False
        self._at_levels = False
        self._at_logging = False
        self._has_words = False

    def written(self, words: Set[str]) -> None:
        """These names and attributes are written in code that was reached."""
        self.at_subclasses |= "__subclasses__" in words
        self.at_text |= bool(words & _TEXT_READERS)
        self._at_levels |= bool(words & _LEVEL_READERS)
        self._has_words |= bool(words & _OF_LOGGERS)

    def reached(self, name: str) -> None:
        """Something of another package was reached, by its full name."""
        self.at_text |= name in _TEXT_FUNCTIONS
        self._at_logging |= name == "logging" or name.startswith("logging.")

    def loggers(self) -> list[JSON]:
        """What the project set on loggers, if its code asks for that; what it writes to them changes no result."""
        if not (self._at_levels or (self._at_logging and self._has_words)):
            return []
        known = {"root": logging.root, **logging.root.manager.loggerDict}
        found: list[JSON] = [["disabled up to", logging.root.manager.disable]] if logging.root.manager.disable else []
        for name, each in sorted(known.items()):
            if isinstance(each, logging.Logger):
                is_as_it_came = each.level == logging.WARNING and name in _WARN_BY_THEMSELVES
                is_unset = each.level == logging.NOTSET and name != "root"
                if not (is_as_it_came or is_unset) or each.disabled or not each.propagate:
                    found.append([name, each.level, each.disabled, each.propagate])
        return found
