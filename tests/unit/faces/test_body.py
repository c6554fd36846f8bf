"""Bodies within limits, before they are parsed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import UsageError
from noria.faces.http.body import BodyCut, BodyTooLarge, read_body, require_shallow


def read(parts: Sequence[bytes], limit: int) -> bytes:
    """What `read_body` makes of a body that comes in parts."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1} for place, part in enumerate(parts)
    ]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    return asyncio.run(read_body({"headers": []}, receive, limit=limit))


def test_a_body_comes_whole_up_to_the_limit() -> None:
    assert read([b"ab", b"", b"cd"], 4) == b"abcd"
    with pytest.raises(BodyTooLarge):
        read([b"ab", b"cd", b"e"], 4)


def test_a_large_body_is_refused_before_its_end_is_read() -> None:
    with pytest.raises(BodyTooLarge) as error:
        read([b"x" * 10, b"never looked at"], 5)
    assert error.value.status == 413


def test_half_a_body_is_none() -> None:
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b'{"a": 1}', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    with pytest.raises(BodyCut):
        asyncio.run(read_body({"headers": []}, receive, limit=100))


def test_depth_is_counted_outside_of_texts() -> None:
    require_shallow(json.dumps({"a": "[" * 1000, "b": '\\"[' * 100}).encode(), 2)
    require_shallow(b"[[[]]]", 3)
    with pytest.raises(UsageError, match="deeper than 3"):
        require_shallow(b"[[[[", 3)
    with pytest.raises(UsageError):
        require_shallow(b'{"a":' * 100_000, 64)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def depth_of(value: Any) -> int:
    """How deep arrays and objects nest."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((depth_of(each) for each in inner), default=0)


@given(values, st.integers(0, 5), st.booleans())
def test_depth_equals_that_of_the_value(value: Any, limit: int, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if depth_of(value) > limit:
        with pytest.raises(UsageError):
            require_shallow(body, limit)
    else:
        require_shallow(body, limit)
