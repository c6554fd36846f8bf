"""Statements that SQLite runs by plans give what SQLAlchemy itself gives for them: random ones, and odd values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.pool import StaticPool

from noria.store.engines import create_table, in_memory
from noria.store.sql.alchemy import built
from noria.store.sql.expressions import case_like, sqlite_insert
from noria.store.sql.plans import Plans, plans
from noria.store.sql.rows import parsed
from noria.store.sql.words import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

THING = Table(
    "thing",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("number", Float),
    Column("flag", Boolean),
    Column("document", JSON),
    Column("content", LargeBinary),
    Column("big", BigInteger, nullable=False),
)
PART = Table(
    "part",
    MetaData(),
    Column("thing", Integer, primary_key=True, autoincrement=False),
    Column("label", String(20), primary_key=True),
)
NAMES = [column.name for column in THING.columns]
texts = st.text(st.sampled_from("aAbB%_/*?[]\\'\"é漢😀 \x01"), max_size=4)
numbers = st.floats(allow_nan=False, width=32) | st.integers(-5, 5).map(float)
bigs = st.integers(-(2**62), 2**62) | st.integers(-3, 3)
# A bare number is left out: SQLite keeps it as one, which SQLAlchemy does not read as JSON.
documents = st.none() | st.booleans() | texts | st.lists(st.none() | st.integers(-5, 5) | texts, max_size=2)
rows = st.fixed_dictionaries(
    {
        "text": texts,
        "number": st.none() | numbers,
        "flag": st.none() | st.booleans(),
        "document": documents,
        "content": st.none() | st.binary(max_size=3),
        "big": bigs,
    }
)
parts = st.tuples(st.integers(0, 5), texts)


def comparisons(column: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        values.map(lambda value: column == value),
        values.map(lambda value: column != value),
        values.map(lambda value: column < value),
        values.map(lambda value: column >= value),
        st.tuples(values, values).map(lambda pair: column.between(*pair)),
        st.lists(values, max_size=5).map(column.in_),
        st.lists(values, max_size=3).map(lambda listed: ~column.in_(listed)),
        st.sampled_from([column.is_(None), column.is_not(None)]),
    )


of_text = st.one_of(
    comparisons(THING.c.text, texts),
    texts.map(lambda text: THING.c.text.startswith(text, autoescape=True)),
    texts.map(lambda text: THING.c.text.endswith(text, autoescape=True)),
    texts.map(lambda text: THING.c.text.contains(text, autoescape=True)),
    texts.map(lambda text: func.lower(THING.c.text).like(text.lower(), escape="\x02")),
    st.tuples(texts, st.lists(texts, max_size=2)).map(
        lambda both: and_(THING.c.text.like(both[0], escape="\x01"), THING.c.text.in_(both[1]))
    ),
    texts.map(lambda text: case_like(THING.c.text, text, text)),
    texts.map(lambda text: THING.c.text + text == text + THING.c.text),
    texts.map(lambda text: func.coalesce(THING.c.text, "") > literal(text)),
)
of_numbers = st.one_of(
    comparisons(THING.c.number, numbers),
    comparisons(THING.c.big, bigs),
    st.integers(-3, 3).map(lambda number: THING.c.id + number * 2 - 1 > -number),
    st.sampled_from([THING.c.flag, ~THING.c.flag, THING.c.flag == True, THING.c.flag.is_(False)]),  # noqa: E712
    st.binary(max_size=3).map(lambda content: THING.c.content == content),
    st.integers(0, 5).map(lambda number: THING.c.id.in_(select(PART.c.thing).where(PART.c.thing < number))),
)
conditions = st.recursive(
    of_text | of_numbers,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: and_(*pair)),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        inner.map(lambda one: or_(and_(one, THING.c.id > 1), one)),
        inner.map(lambda one: ~one),
    ),
    max_leaves=4,
)
JOINED = PART.alias("joined")
columns = st.lists(
    st.sampled_from(
        [
            THING,
            *THING.columns,
            THING.c.text.label("named"),
            cast(THING.c.document, Text).label("said"),
            case((THING.c.number > 0.5, 2), (THING.c.flag, 1), else_=0).label("place"),
            JOINED.c["label"].label("part"),
            func.coalesce(THING.c.number, 1.5).label("or_more"),
        ]
    ),
    min_size=1,
    max_size=3,
    unique_by=id,
)


@st.composite
def questions(draw: st.DrawFn) -> Any:
    """A query of any kind."""
    query: Any = select(*draw(columns))
    query = query.select_from(THING.outerjoin(JOINED, and_(JOINED.c.thing == THING.c.id, JOINED.c.label != "b")))
    query = query.where(*draw(st.lists(conditions, max_size=3)))
    query = query.order_by(THING.c.id.desc() if draw(st.booleans()) else THING.c.text, THING.c.id, JOINED.c.label)
    if draw(st.booleans()):
        query = query.limit(draw(st.integers(0, 4)))
    if draw(st.booleans()):
        query = query.offset(draw(st.integers(0, 3)))
    return query.distinct() if draw(st.booleans()) else query


@st.composite
def sums(draw: st.DrawFn) -> Any:
    """A query for a few numbers about many rows."""
    told = (func.count().label("count"), func.max(THING.c.text), func.min(THING.c.big), THING.c.flag)
    return select(*told).where(draw(conditions)).group_by(THING.c.flag).order_by(THING.c.flag)


@contextmanager
def filled(things: list[Any], ofs: set[Any]) -> Iterator[tuple[Connection, Any]]:
    """Our connection and SQLAlchemy's, each to a database of its own with these rows."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=StaticPool, json_deserializer=parsed)
    with in_memory() as ours, engine.begin() as theirs:
        for table in (THING, PART):
            create_table(ours, table)
            built(table).create(theirs)  # type: ignore[arg-type]  # at run time a table of our own
        for one in (ours, theirs):
            if things:
                one.execute(insert(THING), [{"id": place, **thing} for place, thing in enumerate(things)])
            if ofs:
                one.execute(insert(PART), [{"thing": thing, "label": label} for thing, label in sorted(ofs)])
        yield ours, theirs
    engine.dispose()


def shown(rows: Any) -> list[tuple[Any, ...]]:
    """Rows with the types of their values, which == does not tell apart."""
    return [tuple((type(value).__name__, value) for value in row) for row in rows]


@given(things=st.lists(rows, max_size=5), ofs=st.sets(parts, max_size=5), query=questions() | sums())
@settings(max_examples=300, deadline=None)
def test_any_query_gives_what_sqlalchemy_gives(things: list[Any], ofs: set[Any], query: Any) -> None:
    with filled(things, ofs) as (ours, theirs):
        expected = theirs.execute(built(query))
        names, found = tuple(expected.keys()), shown(expected.all())
        result = ours.execute(query).all()
        assert shown(result) == found
        assert all(row._fields == names for row in result)


@given(things=st.lists(rows, max_size=4), changed=rows, where=conditions, keys=st.lists(st.sampled_from(NAMES[1:])))
@settings(max_examples=200, deadline=None)
def test_any_change_leaves_what_sqlalchemy_leaves(
    things: list[Any], changed: dict[str, Any], where: Any, keys: list[str]
) -> None:
    some = {name: bindparam(f"v_{name}", type_=THING.c[name].type) for name in keys or ["text"]}
    put: Any = sqlite_insert(THING).values({name: bindparam(name, type_=THING.c[name].type) for name in NAMES})
    put = put.on_conflict_do_update(index_elements=["id"], set_={name: put.excluded[name] for name in NAMES[1:]})
    named = {f"v_{name}": changed[name] for name in some}
    with filled(things, set()) as (ours, theirs):
        for one in (ours, theirs):
            one.execute(update(THING).where(where).values(some), named)
            one.execute(put, [{"id": 1, **changed}, {"id": 9, **changed}])
            one.execute(update(THING).where(THING.c.id == 9).values(changed))
            one.execute(update(THING).where(THING.c.id == 1).values(text="x", flag=True, number=None))
            one.execute(delete(THING).where(THING.c.id > 2, ~where))
            one.execute(THING.delete().where(THING.c.id == 0))
        query = select(THING).order_by(THING.c.id)
        assert shown(ours.execute(query)) == shown(theirs.execute(query))


@given(listed=st.lists(st.integers(0, 4), max_size=5), least=st.integers(-1, 5))
@settings(deadline=None)
def test_a_query_made_once_is_asked_with_lists_of_any_length(listed: list[int], least: int) -> None:
    query = select(PART).where(PART.c.thing.in_(bindparam("of", expanding=True)), PART.c.thing >= bindparam("least"))
    query = query.order_by(PART.c.thing)
    with filled([], {(thing, "a") for thing in range(5)}) as (ours, theirs):
        given = {"of": listed, "least": least, "unused": 1}
        assert shown(ours.execute(query, given)) == shown(theirs.execute(query, given))


def test_a_statement_of_sqlalchemy_itself_and_one_with_its_parts_are_run() -> None:
    with filled([], {(1, "a"), (2, "b")}) as (ours, _):
        assert ours.execute(sqlalchemy.text("SELECT label FROM part ORDER BY label")).scalars().all() == ["a", "b"]
        several = sqlalchemy.text("INSERT INTO part (thing, label) VALUES (:thing, :label)")
        ours.execute(several, [{"thing": 3, "label": "c"}, {"thing": 4, "label": "d"}])
        assert [row.label for row in ours.execute(sqlalchemy.text("SELECT label FROM part WHERE thing > 2"))] == [
            "c",
            "d",
        ]
        mixed: Any = select(PART.c.label).where(sqlalchemy.literal_column("thing") == 2)
        assert ours.execute(mixed).all() == [("b",)]
        foreign = sqlalchemy.select(PART.c.label).where(PART.c.thing == 1)
        assert ours.execute(foreign).all() == [("a",)]


def test_a_value_of_another_type_is_no_truth_value() -> None:
    with filled([], set()) as (ours, _), pytest.raises(TypeError, match="no truth value"):
        ours.execute(insert(THING), {"id": 1, "text": "", "big": 1, "flag": "yes"})


def test_a_plan_is_for_the_table_as_it_is_declared(tmp_path: Path) -> None:
    def table(*types: Any) -> Table:
        return Table("twin", MetaData(), *(Column(f"c{place}", each) for place, each in enumerate(types)))

    keys = {table(*types)._key for types in ([Text], [String], [String(3)], [Text, Text], [JSON])}  # type: ignore[attr-defined]
    assert len(keys) == 5
    known, query = Plans(tmp_path / "none"), [select(table(each)) for each in (Text, JSON)]
    texts, documents = (known.of(each, {}) for each in query)  # type: ignore[arg-type]  # nodes
    assert not texts.readings
    assert [place for place, _ in documents.readings] == [0]


def test_what_a_list_holds_does_not_count_for_its_plan_unless_it_is_empty() -> None:
    def plan(listed: list[int]) -> Any:
        return plans().of(select(PART).where(PART.c.thing.in_(listed)), {})  # type: ignore[arg-type]  # a node

    assert plan([1]) is plan([2, 3, 4])
    assert plan([]) is not plan([1])
