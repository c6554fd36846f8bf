"""Row conditions of Great Expectations as SQL: pandas queries, `col("x") > 3`, and the 1.x form as JSON.

A text is read as a Python expression by its syntax tree and never run; anything but comparisons of
columns with literals, `and`, `or`, `not` and tests for null is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from noria.checks.adapters.imported import Refused

__all__ = ["literal", "quoted", "sql"]

_SIGNS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_NULLITY = {
    "notNull": "is not null",
    "is_not_null": "is not null",
    "notnull": "is not null",
    "notna": "is not null",
    "isNull": "is null",
    "is_null": "is null",
    "isnull": "is null",
    "isna": "is null",
}


def sql(condition: Any) -> str:
    """The SQL of a row condition. Raises: Refused."""
    if isinstance(condition, str):
        try:
            tree = ast.parse(condition.strip(), mode="eval")
        except SyntaxError as error:
            raise Refused(f"the row condition {condition!r} cannot be read") from error
        return _node(tree.body)
    if isinstance(condition, Mapping):
        return _document(condition)
    raise Refused(f"the row condition is {type(condition).__name__}")


def quoted(name: str) -> str:
    """A column name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """A plain value in SQL. Raises: Refused."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    raise Refused(f"a value of type {type(value).__name__} is no literal")


def _document(found: Mapping[str, Any]) -> str:
    kind = found.get("type")
    if kind in ("and", "or"):
        return "(" + f" {kind} ".join(_document(each) for each in found["conditions"]) + ")"
    if kind == "pass_through":
        return sql(found["pass_through_filter"])
    column = found.get("column")
    if not isinstance(column, Mapping) or kind not in ("nullity", "comparison"):
        raise Refused(f"a row condition of type {kind!r}")
    name = quoted(str(column["name"]))
    if kind == "nullity":
        return f"{name} is null" if found["is_null"] else f"{name} is not null"
    sign, value = str(found["operator"]), found["parameter"]
    if sign in ("IN", "NOT_IN"):
        return f"{name} {'in' if sign == 'IN' else 'not in'} ({', '.join(map(literal, value))})"
    plain = {"==": "=", "!=": "<>"}.get(sign, sign)
    if plain not in ("=", "<>", "<", "<=", ">", ">="):
        raise Refused(f"the operator {sign!r} in a row condition")
    return f"{name} {plain} {literal(value)}"


def _node(node: ast.expr) -> str:
    if isinstance(node, ast.BoolOp):
        word = " and " if isinstance(node.op, ast.And) else " or "
        return "(" + word.join(_node(each) for each in node.values) + ")"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
        word = "and" if isinstance(node.op, ast.BitAnd) else "or"
        return f"({_node(node.left)} {word} {_node(node.right)})"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        return f"(not {_node(node.operand)})"
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _NULLITY:
        return f"{_value(node.func.value)} {_NULLITY[node.func.attr]}"
    raise Refused(f"{ast.unparse(node)!r} in a row condition")


def _comparison(node: ast.Compare) -> str:
    parts, left = [], node.left
    for sign, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(sign, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple | ast.Set):
            word = "in" if isinstance(sign, ast.In) else "not in"
            parts.append(f"{_value(left)} {word} ({', '.join(_value(each) for each in right.elts)})")
        elif type(sign) in _SIGNS:
            parts.append(f"{_value(left)} {_SIGNS[type(sign)]} {_value(right)}")
        else:
            raise Refused(f"{ast.unparse(node)!r} in a row condition")
        left = right
    return parts[0] if len(parts) == 1 else f"({' and '.join(parts)})"


def _value(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return quoted(node.id)
    if isinstance(node, ast.Constant):
        return literal(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return "-" + literal(node.operand.value)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "col"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
    ):
        return quoted(str(node.args[0].value))
    raise Refused(f"{ast.unparse(node)!r} in a row condition")
