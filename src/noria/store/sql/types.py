"""The types of columns, as light objects that say which of SQLAlchemy's they stand for."""

from __future__ import annotations

__all__ = ["JSON", "BigInteger", "Boolean", "Float", "Integer", "LargeBinary", "SmallInteger", "String", "Text", "Type"]


class Type:
    """A type with its length, where it has one, and the types that stand for it in some databases."""

    __slots__ = ("length", "variants")

    def __init__(self, length: int | None = None) -> None:
        self.length = length
        self.variants: tuple[tuple[str, Type], ...] = ()

    @property
    def type_key(self) -> str:
        """A text that is equal for equal types."""
        shown = "" if self.length is None else f"({self.length})"
        return type(self).__name__ + shown + "".join(f"/{name}:{each.type_key}" for name, each in self.variants)

    def with_variant(self, other: Type, name: str) -> Type:
        """The same type, but another in the database of that name."""
        made = type(self)(self.length)
        made.variants = (*self.variants, (name, other))
        return made


class BigInteger(Type):
    """Whole numbers of 64 bits."""

    __slots__ = ()


class Boolean(Type):
    """Truth values; numbers in SQLite."""

    __slots__ = ()


class Float(Type):
    """Floating-point numbers of 64 bits."""

    __slots__ = ()


class Integer(Type):
    """Whole numbers of 32 bits; of 64 in SQLite."""

    __slots__ = ()


class JSON(Type):
    """Values kept as JSON; texts in SQLite."""

    __slots__ = ()


class LargeBinary(Type):
    """Bytes."""

    __slots__ = ()


class SmallInteger(Type):
    """Whole numbers of 16 bits; of 64 in SQLite."""

    __slots__ = ()


class String(Type):
    """Texts up to a length."""

    __slots__ = ()


class Text(Type):
    """Texts of any length."""

    __slots__ = ()
