"""Clock, graph, schema, errors, verb and lazy: the small modules of the ground floor."""

from __future__ import annotations

import inspect
import sys
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core import errors
from noria.core.clock import duration, instant, utc_text
from noria.core.errors import NoriaError
from noria.core.graph import ancestors, find_cycle, topological
from noria.core.lazy import lazy
from noria.core.schema import Column, Signature
from noria.core.verb import verb, verb_of


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_the_text_of_a_moment_reads_back(moment: datetime) -> None:
    try:
        text = utc_text(moment)
    except OverflowError:
        return  # the first or the last day of the calendar, moved beyond it by the offset
    assert instant(text) == moment


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_beyond_the_calendar_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        instant(text)


@given(st.datetimes(), st.datetimes())
def test_texts_sort_as_moments_do(first: datetime, second: datetime) -> None:
    one, two = first.replace(tzinfo=UTC), second.replace(tzinfo=UTC)
    assert (utc_text(one) < utc_text(two)) == (one < two)


def test_a_moment_without_a_zone_is_refused_as_a_value_and_utc_as_text() -> None:
    with pytest.raises(ValueError, match="time zone"):
        utc_text(datetime(2026, 1, 1))
    assert instant("2026-01-01") == datetime(2026, 1, 1, tzinfo=UTC)
    assert instant("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("1.5d", timedelta(hours=36)),
        ("250ms", timedelta(milliseconds=250)),
        ("7us", timedelta(microseconds=7)),
        ("0s", timedelta()),
    ],
)
def test_durations_are_read(text: str, length: timedelta) -> None:
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "5y", "-5s", "1h 30m", "1hx"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)


@pytest.mark.parametrize("text", ["36501d", "99999999999d", "36500d1us", "9" * 400 + "s", "1h" * 900_000])
def test_a_length_that_no_date_holds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a hundred years") as refused:
        duration(text)
    assert len(str(refused.value)) < 120
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    assert moment - duration("36500d") < moment < moment + duration("36500d")


graphs = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=12)


@given(graphs)
def test_an_order_puts_parents_first_or_there_is_a_cycle(parents: dict[int, list[int]]) -> None:
    cycle = find_cycle(parents)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert all(after in parents[before] for before, after in pairwise(cycle))
        with pytest.raises(ValueError, match="cycle"):
            topological(parents)
        return
    order = topological(parents)
    assert len(order) == len(set(order)) == len(set(parents) | {p for above in parents.values() for p in above})
    for node, above in parents.items():
        assert all(order.index(parent) < order.index(node) for parent in above)


@given(graphs, st.integers(0, 12))
def test_ancestors_are_what_can_be_reached(parents: dict[int, list[int]], start: int) -> None:
    reached: set[int] = set()
    waiting = list(parents.get(start, []))
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(parents.get(node, []))
    assert set(ancestors([start], parents)) == reached - {start}


def test_a_deep_graph_needs_no_recursion() -> None:
    chain = {number: [number - 1] for number in range(1, 20_000)}
    assert find_cycle(chain) is None
    assert topological(chain)[0] == 0
    assert len(ancestors([19_999], chain)) == 19_999


def test_columns_and_signatures_are_values() -> None:
    column = Column("carrier", "category")
    assert column.with_levels(("AA", "UA")).levels == ("AA", "UA")
    assert column.levels == ()
    assert Signature((column,), ()).input_names() == ("carrier",)


def every_error() -> list[type[NoriaError]]:
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, NoriaError)]
    assert {cls.__name__ for cls in found} == {*errors.__all__}
    return found


@pytest.mark.parametrize("cls", every_error())
def test_an_error_says_what_where_and_what_next(cls: type[NoriaError]) -> None:
    made = cls("it failed", where="noria.toml", hint="do this")
    assert str(made) == "it failed\nwhere: noria.toml\nnext:  do this"
    assert str(cls("it failed")) == "it failed"
    assert made.exit_code in (1, 2, 3, 4, 130)  # 130 as a shell tells of Ctrl-C
    assert 400 <= made.status < 600


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in every_error()]
    assert len(codes) == len(set(codes))


def test_a_verb_is_marked_and_not_wrapped() -> None:
    def drop_table(ws: object) -> int:
        return 1

    drop_table.__module__ = "noria.data.tabular.tables"
    marked = verb(permission="data.write", where="project")(drop_table)
    assert marked is drop_table
    found = verb_of(marked)
    assert found is not None
    assert (found.capability, found.name, found.permission) == ("data", "drop-table", "data.write")
    assert found.is_change
    assert found.where == "project"
    assert verb_of(len) is None


def test_a_lazy_module_is_imported_at_its_first_attribute() -> None:
    name = "xml.dom.pulldom"
    sys.modules.pop(name, None)
    module = lazy(name)
    assert name not in sys.modules
    assert module.START_ELEMENT == "START_ELEMENT"
    assert name in sys.modules
    with pytest.raises(AttributeError):
        _ = module.__wrapped__
    with pytest.raises(ModuleNotFoundError):
        _ = lazy("noria_is_not_here").anything


@pytest.mark.parametrize("text", ["36526d", "9999999999d", "1" + "0" * 400 + "d", "99999d99999d"])
def test_a_duration_of_more_than_a_hundred_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        duration(text)
