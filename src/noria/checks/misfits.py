"""Which texts of a column are the reason that it is text, where a number, a time or true and false were wanted.

A column of a text file is a number only if every value is written as one (see `noria.data.forms.text`), so one word
in a million rows makes all of it text. The forms here are those; a word for "missing" stands in each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Mask, mask
from noria.core.lazy import lazy
from noria.data.forms import text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["NAMES", "misfits"]

NAMES = {"number": "a number", "time": "a time", "bool": "true or false"}
_MISSING = r"^\s*(NA|N/A|NaN|nan|null|NULL|None)?\s*$"
_WHOLE = r"-?(0|[1-9][0-9]*)"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
_FORMS = {
    "number": rf"^\s*({_WHOLE}\.?|({_WHOLE}|-)?\.[0-9]+([eE][+-]?[0-9]+)?|{_WHOLE}[eE][+-][0-9]+)\s*$",
    "time": rf"^\s*{_DAY}({_CLOCK}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?\s*$",
    "bool": r"^\s*(true|false|True|False|TRUE|FALSE)\s*$",
}


def misfits(words: pa.Array[Any], wanted: str) -> Mask:
    """Which of some texts are not written as a `number`, `time` or `bool`; none for other wants. Shape (n_words,)."""
    if wanted not in _FORMS:
        return np.zeros(len(words), bool)
    said = pc.or_(*(pc.match_substring_regex(words, form) for form in (_FORMS[wanted], _MISSING)))
    odd: Mask = ~mask(pc.fill_null(said, True))
    if wanted == "time":
        days = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(words), 0, 10)
        known = pc.unique(days.filter(pa.array(~odd))).drop_null()
        wrong = [day for day in known.to_pylist() if text.kind_of(pa.array([day])) == "string"]  # such as 2013-02-30
        odd |= mask(pc.fill_null(pc.is_in(days, value_set=pa.array(wrong, pa.string())), False))
    return odd
