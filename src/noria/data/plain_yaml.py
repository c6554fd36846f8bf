"""The part of YAML that DVC's own files are written in: block mappings and lists, flow values, scalars.

`.dvc` and `dvc.lock` are written by a program, always in this part of the language. What is outside
of it (anchors, tags, merge keys, several documents) is refused with its line, never guessed at. Plain
scalars become null, true, false, integers and floats as YAML 1.2's core schema says; all else is text.

Source: YAML 1.2.2, §10.3 (core schema), §7.3 and §8.1 (flow and block scalars).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from noria.core.errors import UsageError

__all__ = ["load"]

DEPTH_MAX = 64
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s\-?:,\[\]{}#&*!|>'"%@`][^#]*?|-[^\s#][^#]*?)\s*:(?=\s|$)""")
_BLOCK = re.compile(r"([|>])([1-9]?)([-+]?)([1-9]?)\s*(?:#.*)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r",
    "e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    indent: int
    text: str


def load(text: str, where: str) -> Any:
    """The value of a document. Raises: UsageError naming file and line for what this does not read."""
    return _Reader(text, where).document()


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._raw = text.lstrip("\ufeff").splitlines()
        self._at = 0
        self._depth = 0

    def document(self) -> Any:
        line = self._peek()
        if line is not None and line.text == "---":
            self._at = line.number
        value = self._block(-1) if self._peek() is not None else None
        rest = self._peek()
        if rest is not None and rest.text != "...":
            raise self._bad(rest.number, "more than one value")
        return value

    def _peek(self) -> _Line | None:
        """The next line that says something."""
        while self._at < len(self._raw):
            raw = self._raw[self._at]
            text = raw.strip()
            if text and not text.startswith("#"):
                body = raw.lstrip(" ")
                if body.startswith("\t"):
                    raise self._bad(self._at + 1, "a tab as indentation")
                return _Line(self._at + 1, len(raw) - len(body), body.rstrip())
            self._at += 1
        return None

    def _block(self, above: int) -> Any:
        line = self._peek()
        if line is None or line.indent <= above:
            return None
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._bad(line.number, "too deep")
        try:
            if _is_item(line.text):
                return self._list(line.indent)
            if _KEY.match(line.text):
                return self._mapping(line.indent)
            self._at += 1
            return self._value(line.text, line, above)
        finally:
            self._depth -= 1

    def _list(self, indent: int) -> list[Any]:
        found: list[Any] = []
        while (line := self._peek()) is not None and line.indent == indent and _is_item(line.text):
            rest = line.text[1:].lstrip(" ")
            if not rest or rest.startswith("#"):
                self._at += 1
                found.append(self._block(indent))
                continue
            inner = indent + len(line.text) - len(rest)
            if _is_item(rest) or _KEY.match(rest):  # `- a: 1` begins a block of its own on this line
                self._raw[self._at] = " " * inner + rest
                found.append(self._block(indent))
            else:
                self._at += 1
                found.append(self._value(rest, line, indent))
        return found

    def _mapping(self, indent: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (line := self._peek()) is not None and line.indent == indent:
            match = _KEY.match(line.text)
            if match is None:
                raise self._bad(line.number, "a line that is no key")
            key = self._key(match[1], line)
            if key in found:
                raise self._bad(line.number, f"the key {key!r} twice")
            rest = line.text[match.end() :].lstrip(" ")
            self._at += 1
            if not rest or rest.startswith("#"):
                following = self._peek()
                is_list = following is not None and following.indent == indent and _is_item(following.text)
                found[key] = self._list(indent) if is_list else self._block(indent)
            else:
                found[key] = self._value(rest, line, indent)
        if line is not None and line.indent > indent:
            raise self._bad(line.number, "an indentation that fits nothing")
        return found

    def _key(self, text: str, line: _Line) -> str:
        value = self._scalar(text, line)
        return value if isinstance(value, str) else text

    def _value(self, text: str, line: _Line, indent: int) -> Any:
        """What stands behind a key or a dash, with the lines that go on with it."""
        block = _BLOCK.fullmatch(text)
        if block is not None:
            return self._literal(block, indent)
        if text[0] in "[{":
            while not _is_balanced(text):
                text += " " + self._continued(line, "a bracket that is never closed")
            return _Flow(_uncommented(text), lambda why: self._bad(line.number, why)).read()
        if text[0] in "\"'":
            while not _is_closed(text):
                more = self._continued(line, "a quote that is never closed")
                text = text[:-1] + more if text.endswith("\\") and text[0] == '"' else f"{text} {more}"
            return self._scalar(_uncommented(text), line)
        text = _uncommented(text)
        while (following := self._peek()) is not None and following.indent > indent:
            text += " " + _uncommented(following.text)
            self._at += 1
        return self._scalar(text, line)

    def _continued(self, line: _Line, why: str) -> str:
        if self._at >= len(self._raw):
            raise self._bad(line.number, why)
        self._at += 1
        return self._raw[self._at - 1].strip()

    def _literal(self, block: re.Match[str], indent: int) -> str:
        """A `|` or `>` scalar."""
        given = int(block[2] or block[4] or 0)
        lines: list[str] = []
        own = max(indent, 0) + given if given else -1
        while self._at < len(self._raw):
            raw = self._raw[self._at]
            here = len(raw) - len(raw.lstrip(" "))
            if raw.strip():
                if own < 0:
                    own = here
                if here < own or here <= indent:
                    break
            lines.append(raw[own:] if own >= 0 else "")
            self._at += 1
        while lines and not lines[-1] and block[3] != "+":
            lines.pop()
        body = "\n".join(lines) if block[1] == "|" else _folded(lines)
        return body + ("" if block[3] == "-" or not lines else "\n")

    def _scalar(self, text: str, line: _Line) -> Any:
        if text[:1] in ("&", "*", "!", "%", "@", "`"):
            raise self._bad(line.number, f"{text[:1]} (anchors, aliases and tags)")
        try:
            return _scalar(text)
        except ValueError as error:
            raise self._bad(line.number, str(error)) from error

    def _bad(self, number: int, why: str) -> UsageError:
        return UsageError(
            f"this YAML is not read: {why}", where=f"{self._where}, line {number}", hint="write it as DVC itself does"
        )


class _Flow:
    """A value in brackets, `[a, {b: c}]`."""

    def __init__(self, text: str, bad: Any) -> None:
        self._text, self._at, self._bad = text, 0, bad

    def read(self) -> Any:
        value = self._value(0)
        if self._text[self._at :].strip():
            raise self._bad("more behind a closing bracket")
        return value

    def _value(self, depth: int) -> Any:
        self._skip()
        if depth > DEPTH_MAX:
            raise self._bad("too deep")
        opened = self._text[self._at : self._at + 1]
        if opened == "[":
            return self._many("]", lambda: self._value(depth + 1))
        if opened == "{":
            return dict(self._many("}", lambda: self._pair(depth + 1)))
        return self._scalar(",]}")

    def _many(self, end: str, read: Any) -> list[Any]:
        self._at += 1
        found: list[Any] = []
        while True:
            self._skip()
            if self._text[self._at : self._at + 1] == end:
                self._at += 1
                return found
            found.append(read())
            self._skip()
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
            elif self._text[self._at : self._at + 1] != end:
                raise self._bad("a list or mapping without its end")

    def _pair(self, depth: int) -> tuple[str, Any]:
        key = self._scalar(",}:", is_key=True)
        self._skip()
        if self._text[self._at : self._at + 1] == ":":
            self._at += 1
            return str(key), self._value(depth)
        return str(key), None

    def _scalar(self, ends: str, *, is_key: bool = False) -> Any:
        self._skip()
        start = self._at
        if self._text[start : start + 1] in ("'", '"'):
            self._at = _quote_end(self._text, start)
        else:
            while self._at < len(self._text) and self._text[self._at] not in ends:
                self._at += 1
        text = self._text[start : self._at].strip()
        if text[:1] in ("&", "*", "!"):
            raise self._bad(f"{text[:1]} (anchors, aliases and tags)")
        try:
            value = _scalar(text)
        except ValueError as error:
            raise self._bad(str(error)) from error
        return text if is_key and not isinstance(value, str) else value

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _scalar(text: str) -> Any:
    if text[:1] == '"':
        return _unescaped(text[1:-1])
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in (".inf", "+.inf", "-.inf", ".nan"):
        return math.nan if text.lower() == ".nan" else float(text.replace(".", ""))
    return text


def _unescaped(text: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "\\":
            parts.append(text[at])
            at += 1
            continue
        code = text[at + 1 : at + 2]
        width = {"x": 2, "u": 4, "U": 8}.get(code, 0)
        if width:
            digits = text[at + 2 : at + 2 + width]
            if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
                raise ValueError(f"\\{code}{digits} is no character")
            parts.append(chr(int(digits, 16)))
        elif code in _ESCAPES:
            parts.append(_ESCAPES[code])
        else:
            raise ValueError(f"\\{code} is no escape")
        at += 2 + width
    joined = "".join(parts)
    return json.loads(json.dumps(joined)) if any("\ud800" <= each <= "\udfff" for each in joined) else joined


def _uncommented(text: str) -> str:
    """The text without a comment behind it; `#` inside quotes or words is none."""
    at = 0
    while at < len(text):
        if text[at] in "\"'" and (at == 0 or text[at - 1] in " [{,:"):
            at = _quote_end(text, at)
            continue
        if text[at] == "#" and (at == 0 or text[at - 1] in " \t"):
            return text[:at].rstrip()
        at += 1
    return text.rstrip()


def _quote_end(text: str, start: int) -> int:
    """The place behind a quoted text; the length of the text if it is not closed."""
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 2
        elif text[at] == quote:
            if quote == "'" and text[at + 1 : at + 2] == "'":
                at += 2
                continue
            return at + 1
        else:
            at += 1
    return len(text) + 1


def _is_closed(text: str) -> bool:
    return _quote_end(text, 0) <= len(text)


def _is_balanced(text: str) -> bool:
    depth = at = 0
    while at < len(text):
        if text[at] in "\"'":
            at = _quote_end(text, at)
            continue
        depth += (text[at] in "[{") - (text[at] in "]}")
        at += 1
    return depth <= 0 and at <= len(text)


def _folded(lines: list[str]) -> str:
    """Lines of a `>` scalar: single line ends are spaces, but next to indented or empty lines."""
    parts: list[str] = []
    for number, line in enumerate(lines):
        if number:
            before = lines[number - 1]
            is_plain = line and before and not line.startswith((" ", "\t")) and not before.startswith((" ", "\t"))
            if is_plain:
                parts.append(" ")
            elif not (before == "" and line and number >= 2):
                parts.append("\n")
        parts.append(line)
    return "".join(parts)
