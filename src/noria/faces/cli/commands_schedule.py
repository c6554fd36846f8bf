"""The rows of the table of commands for schedules and searches: `noria schedule …`, `noria search …`."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["SCHEDULES", "SEARCHES"]

SEARCHES: Mapping[str, Command] = {
    "search list": Command(
        target="noria.search.control:list_studies",
        summary="Searches, newest first, each with its best trial",
        examples=("noria search list", "noria search list --limit 5 --json"),
        show="studies",
        next="noria search show {study}",
        empty="no search yet: noria run --search 20",
    ),
    "search show": Command(
        target="noria.search.control:show",
        summary="A search with every trial; the newest without an id",
        examples=("noria search show", "noria search show study_01k3 --json"),
        positional=("study",),
        show="study",
    ),
}

SCHEDULES: Mapping[str, Command] = {
    "schedule backfill": Command(
        target="noria.schedule.backfill:backfill",
        summary="Do the ticks of a stretch of the past, each moment and partition once",
        examples=(
            "noria schedule backfill nightly --from 2026-01-01 --to 2026-02-01",
            "noria schedule backfill nightly --from 2026-01-01 --partitions DE --again --dry-run",
        ),
        rename={"start": "from", "end": "to"},
        options=("start",),
        show="backfilled",
    ),
    "schedule list": Command(
        target="noria.schedule.control:list_schedules",
        summary="Every schedule: when it ticks, what it does, the next tick and the last",
        examples=("noria schedule list", "noria schedule list --check"),
        show="schedules",
        next="noria schedule next {name}",
        empty='no schedule yet: [schedule.nightly] cron = "0 4 * * *" in noria.toml declares one',
    ),
    "schedule next": Command(
        target="noria.schedule.control:upcoming",
        summary="The ticks to come, in UTC and as the clocks of the zone will show them",
        examples=("noria schedule next", "noria schedule next nightly --count 10"),
        positional=("name",),
        show="upcoming",
        empty="nothing is to come: noria.toml has no [schedule.NAME]",
    ),
    "schedule pause": Command(
        target="noria.schedule.control:pause",
        summary="Let the clock start nothing more of a schedule",
        examples=("noria schedule pause nightly", "noria schedule pause nightly --reason 'the source moves'"),
        show="schedule",
        next="noria schedule resume {name}",
    ),
    "schedule resume": Command(
        target="noria.schedule.control:resume",
        summary="Let a paused schedule go on from now",
        examples=("noria schedule resume nightly", "noria schedule resume nightly --json"),
        show="schedule",
        next="noria schedule next {name}",
    ),
    "schedule ticks": Command(
        target="noria.schedule.control:list_ticks",
        summary="Ticks and what came of each, the last first",
        examples=("noria schedule ticks", "noria schedule ticks nightly --status failed --limit 5"),
        positional=("name",),
        show="ticks",
        next="noria explain {ref}",
        empty="no tick yet: noria up looks at the clock, noria schedule trigger NAME ticks now",
    ),
    "schedule trigger": Command(
        target="noria.schedule.control:trigger",
        summary="Let a schedule tick now; noria up does what it asks for",
        examples=("noria schedule trigger nightly", "noria schedule trigger nightly --json"),
        show="triggered",
    ),
}
