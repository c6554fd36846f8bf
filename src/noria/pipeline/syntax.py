"""The canonical text of code, and which names outside it the code looks at.

The text has no positions, comments, docstrings, annotations of plain functions or empty fields,
and is written by our own serialiser: `ast.dump` and `ast.unparse` change between Python minors.
"""

from __future__ import annotations

import ast
import dis
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

from noria.core.frozen import frozen

__all__ = ["Summary", "Use", "canonical_syntax", "global_names", "summary", "uses"]

_SKIP = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL", "STORE_GLOBAL"})
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
_READERS = ("read", "scan", "load", "open", "from_file", "fromfile", "genfromtxt", "loadtxt", "parse_file", "Parquet")
_PATH_READERS = ("read_text", "read_bytes", "open")
_WRITING = frozenset("wax+")

TextOf = Callable[[ast.AST], str]
"""Gives the text that an expression stands for, or "" if that is unknown."""


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One look at a name: `root.attrs…`, and the text argument or index that follows, if any.

    `how` is "plain", "call", "item" or "in"; `literal` the constant text in the call or index, or that is looked
    for in it (empty: none).
    """

    root: str
    attrs: tuple[str, ...] = ()
    how: str = "plain"
    literal: str = ""


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below one, as `ast.iter_child_nodes` gives them but for the marks of loads and stores.

    Every text that a step reaches is gone through some times before it can be found in the cache; this takes a
    third of the time.
    """
    found: list[ast.AST] = []
    for name in node._fields:
        below = getattr(node, name, None)
        if type(below) is list:
            found += [each for each in below if isinstance(each, ast.AST)]
        elif isinstance(below, ast.AST) and name != "ctx":
            found.append(below)
    return found


def walk(node: ast.AST) -> list[ast.AST]:
    """A node and all below it, level by level."""
    found = [node]
    for each in found:
        found += children(each)
    return found


def canonical_syntax(node: ast.AST) -> str:
    """The text of a definition (function, lambda, class) or a module, without its own name.

    The outermost function's decorators and defaults are left out as well: what they made is found
    in the live object.
    """
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        return f"{kind}({_arguments(node.args)},{_body(node.body, in_class=False)})"
    if isinstance(node, ast.Lambda):
        return f"lambda({_arguments(node.args)},{_text(node.body, in_class=False)})"
    if isinstance(node, ast.ClassDef):
        parts = [_text(item, in_class=False) for item in (*node.decorator_list, *node.bases, *node.keywords)]
        return f"class({','.join(parts)},{_body(node.body, in_class=True)})"
    if isinstance(node, ast.Module):
        return f"module({_body(node.body, in_class=True)})"
    return _text(node, in_class=False)


def _arguments(args: ast.arguments) -> str:
    groups = [[item.arg for item in group] for group in (args.posonlyargs, args.args, args.kwonlyargs)]
    return f"{groups}{args.vararg.arg if args.vararg else ''}|{args.kwarg.arg if args.kwarg else ''}"


def _body(statements: list[ast.stmt], *, in_class: bool) -> str:
    kept = [item for item in statements if not isinstance(item, ast.Pass) and not _is_docstring(item)]
    return "[" + ",".join(filter(None, (_text(item, in_class=in_class) for item in kept))) + "]"


def _is_docstring(node: ast.stmt) -> bool:
    """Any statement that is only a constant: it does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def constant_text(node: ast.AST) -> str:
    """The text of a literal; "" for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _text(node: object, *, in_class: bool) -> str:
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.Import | ast.ImportFrom):
        return ""  # what an import binds is followed; the name of a local file says nothing
    if isinstance(node, ast.ClassDef):
        return f"{node.name}={canonical_syntax(node)}"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return _inner_function(node)
    if isinstance(node, ast.AnnAssign) and not in_class and node.simple:
        if node.value is None:
            return ""
        return f"Assign(targets=[{_text(node.target, in_class=False)}],value={_text(node.value, in_class=False)})"
    if isinstance(node, ast.AST):
        parts = []
        for name, value in ast.iter_fields(node):
            if name in _SKIP or value is None or value == []:
                continue
            if name in ("body", "orelse", "finalbody") and isinstance(value, list):
                parts.append(f"{name}={_body(value, in_class=in_class)}")
            else:
                parts.append(f"{name}={_text(value, in_class=in_class)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return "[" + ",".join(_text(item, in_class=in_class) for item in node) + "]"
    return repr(node)


def _inner_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """A function inside a class or function: its decorators, defaults and (if decorated) annotations count."""
    defaults = [_text(item, in_class=False) for item in node.args.defaults]
    if any(node.args.kw_defaults):  # one for each keyword, "" where it has none
        defaults += ["*", *(_text(item, in_class=False) if item else "" for item in node.args.kw_defaults)]
    decorators = [_text(item, in_class=False) for item in node.decorator_list]
    notes = ""
    if decorators:
        every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        hints = (node.returns, *(item.annotation for item in every))
        notes = ",".join(_text(item, in_class=False) for item in hints if item)
    return f"{node.name}={canonical_syntax(node)}{defaults}{decorators}{notes}"


def _constant(value: object) -> str:
    if isinstance(value, float):
        return f"float:{value.hex()}"
    if isinstance(value, complex):
        return f"complex:{value.real.hex()},{value.imag.hex()}"
    if type(value) is int:
        return f"int:{value:x}"  # a text of its decimal digits has a limit
    return f"{type(value).__name__}:{value!r}"


def global_names(code: CodeType) -> set[str]:
    """Names that a code object, or one inside it, looks up outside its own scopes."""
    found: set[str] = set()
    queue = [code]
    for current in queue:
        if current.co_names:
            found |= _names_outside(current)
        queue.extend(constant for constant in current.co_consts if isinstance(constant, CodeType))
    return found


def _names_outside(code: CodeType) -> set[str]:
    """The names that one code object looks up outside; a class finds its own only after it has surely set them."""
    found: set[str] = set()
    own: set[str] = set()
    is_sure = not code.co_exceptiontable
    for item in dis.get_instructions(code):
        if item.opname == "STORE_NAME" and is_sure:
            own.add(item.argval)
        elif item.opname == "DELETE_NAME":
            own.discard(item.argval)
        elif item.opname in _GLOBAL_LOADS and not (item.opname == "LOAD_NAME" and item.argval in own):
            found.add(item.argval)
        elif item.opcode in _JUMPS:
            is_sure = False  # what is set from here on may not be
    return found


def code_of(node: ast.AST) -> CodeType:
    """The code of a definition on its own, for `global_names`."""
    assert isinstance(node, ast.ClassDef | ast.Module), "a function has code of its own"
    tree = node if isinstance(node, ast.Module) else ast.Module(body=[node], type_ignores=[])
    return compile(tree, "<definition>", "exec", dont_inherit=True)


def lines_of(definition: ast.AST) -> tuple[int, int]:
    """The first and the last line of a definition with its decorators; (0, 0) for a module."""
    if isinstance(definition, ast.Module):
        return 0, 0
    first = min([getattr(definition, "lineno", 0), *(d.lineno for d in getattr(definition, "decorator_list", ()))])
    return first, getattr(definition, "end_lineno", None) or 0


def uses(node: ast.AST, text_of: TextOf = constant_text) -> set[Use]:
    """Every look at a name inside a definition, as the longest attribute chain that is written."""
    found: set[Use] = set()
    _collect(node, found, text_of)
    return found


def _collect(node: ast.AST, found: set[Use], text_of: TextOf) -> None:
    if isinstance(node, ast.Call):
        _collect_call(node, found, text_of)
        return
    if isinstance(node, ast.Subscript):
        chain = _chain(node.value)
        if chain is not None:
            found.add(Use(*chain, "item", text_of(node.slice)))
            _collect(node.slice, found, text_of)
            return
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
        chain = _chain(node.comparators[0])
        if chain is not None and chain[1]:
            found.add(Use(*chain, "in", text_of(node.left)))
            _collect(node.left, found, text_of)
            return
    chain = _chain(node)
    if chain is not None:
        found.add(Use(*chain))
        return
    for child in children(node):
        _collect(child, found, text_of)


def _collect_call(node: ast.Call, found: set[Use], text_of: TextOf) -> None:
    chain = _chain(node.func)
    if chain is None:
        _collect(node.func, found, text_of)
    else:
        found.add(Use(*chain, "call", text_of(node.args[0]) if node.args else ""))
        if chain == ("getattr", ()) and len(node.args) >= 2:
            inner, name = _chain(node.args[0]), text_of(node.args[1])
            if inner is not None and name.isidentifier():
                found.add(Use(inner[0], (*inner[1], name)))
                for argument in node.args[1:]:
                    _collect(argument, found, text_of)
                return
            if isinstance(node.args[0], ast.Call) and _chain(node.args[0].func) == ("getattr", ()):
                found.add(Use("getattr"))  # what is in a thing that is found by a name which cannot be told
    for given in (*node.args, *node.keywords):
        _collect(given, found, text_of)


def _chain(node: ast.AST) -> tuple[str, tuple[str, ...]] | None:
    attrs: list[str] = []
    while isinstance(node, ast.Attribute):
        attrs.append(node.attr)
        node = node.value
    return (node.id, tuple(reversed(attrs))) if isinstance(node, ast.Name) else None


@frozen
class Summary:
    """What can be told of a definition by its text alone; made once, however many steps reach it.

    `imports` are (module, level, name or "", the name it is bound to), `attributes` every attribute
    name that is written, `roots` the names that are looked at, `reads` what is called, and the path,
    in every call that reads a file (`read_parquet(PATH)`, `PATH.read_text()`, …).
    """

    text: str
    names: frozenset[str]
    roots: frozenset[str]
    imports: tuple[tuple[str, int, str, str], ...]
    attributes: frozenset[str]
    reads: tuple[tuple[ast.expr, ast.expr], ...]


def summary(node: ast.AST) -> Summary:
    """The summary of a definition or a module."""
    found: list[tuple[str, int, str, str]] = []
    attributes: set[str] = set()
    reads: list[tuple[ast.expr, ast.expr]] = []
    for item in walk(node):
        if isinstance(item, ast.Import):
            found += [(each.name, 0, "", each.asname or each.name.partition(".")[0]) for each in item.names]
        elif isinstance(item, ast.ImportFrom):
            found += [(item.module or "", item.level, each.name, each.asname or each.name) for each in item.names]
        elif isinstance(item, ast.Attribute):
            attributes.add(item.attr)
        elif isinstance(item, ast.Call) and not _writes(item):
            if isinstance(item.func, ast.Attribute) and item.func.attr in _PATH_READERS:
                reads.append((item.func, item.func.value))
            if item.args and getattr(item.func, "attr", getattr(item.func, "id", "")).startswith(_READERS):
                reads.append((item.func, item.args[0]))
    has_code = isinstance(node, ast.ClassDef | ast.Module)
    return Summary(
        text=canonical_syntax(node),
        names=frozenset(global_names(code_of(node))) if has_code else frozenset(),
        roots=frozenset(use.root for use in uses(node)),
        imports=tuple(found),
        attributes=frozenset(attributes),
        reads=tuple(reads),
    )


def _writes(node: ast.Call) -> bool:
    """Whether a call says that it opens for writing."""
    modes = [item.value for item in node.keywords if item.arg == "mode"]
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    place = 0 if isinstance(node.func, ast.Attribute) and name == "open" else 1
    if name == "open":
        modes += node.args[place : place + 1]
        flags = [part for item in node.args[1:2] for part in ast.walk(item)]
        if any(getattr(part, "attr", getattr(part, "id", "")) == "O_WRONLY" for part in flags):
            return True
    return any(len(text := constant_text(mode)) <= 3 and _WRITING & set(text) for mode in modes)
