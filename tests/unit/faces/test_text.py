"""Numbers, sizes and columns for people."""

from __future__ import annotations

import click
import pytest

from noria.faces import verbs
from noria.faces.cli import show, show_people, text
from noria.faces.cli.commands import COMMANDS
from noria.faces.cli.show import renderer
from noria.faces.cli.show_pipeline import Screen
from noria.governance.audit import AuditReport
from noria.pipeline.records import StepRecord
from noria.project import used
from noria.registry.records import VersionRecord
from noria.registry.versions import ModelInfo
from noria.tracking.facts import Pin

CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"


@pytest.mark.parametrize(
    "hostile", [CLIPBOARD, "\x1b[2J", "\x1b[1A", "\x9b2J", "\r", "\b", "\x7f", "\u202e", "\udcff", "\x1b"]
)
def test_nothing_in_a_value_acts_on_the_terminal(hostile: str) -> None:
    shown = show.plain(f"a{hostile}b")
    assert shown.isprintable()
    assert (shown[0], shown[-1]) == ("a", "b")


def test_blanks_and_lines_stay() -> None:
    said = "90\u202f%\n\t–  ä"
    assert show.plain({said: [said, 1]}) == {said: [said, 1]}


def test_what_data_hold_is_shown_without_its_escape_sequences() -> None:
    found = {
        "name": "t",
        "column": "id",
        "key": "1",
        "is_there": True,
        "changes": [
            {
                "version": 1,
                "change": "added",
                "at": "2026-01-01T00:00:00Z",
                "actor": "user:a",
                "operation": "add",
                "source": "t.csv",
                "made_by": [],
                "code": "",
                "note": CLIPBOARD,
                "values": [{"column": CLIPBOARD, "before": None, "after": CLIPBOARD}],
            }
        ],
    }
    shown = show.render("row_history", found)
    assert "\x1b]" not in shown
    assert shown.count("\\u001b]52;c;cm0gLXJm\\u0007") == 3


def test_numbers_say_what_they_are() -> None:
    assert text.count(1234567) == "1,234,567"
    assert text.count(None) == "–"
    assert text.decimal(0.81249) == "0.812"
    assert text.decimal(-12345.6) == "-12,346"
    assert text.signed(0.005) == "+0.005"
    assert text.share(0.112) == "11.2 %"
    assert text.interval(0.001, 0.009) == "[0.001, 0.009]"
    assert text.interval(None, 1.0) == ""


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (41_000_000, "41.0 MB"),
        (410_000_000, "410 MB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_have_a_unit_that_fits(size: float, said: str) -> None:
    assert text.size(size) == said


def test_times_and_digests_are_short() -> None:
    assert text.day("2026-11-21T04:40:00.000000Z") == "2026-11-21 04:40"
    assert text.day("2026-11-21T00:00:00.000000Z") == "2026-11-21"
    assert text.day(None) == ""
    assert text.name_of("sha256:" + "ab" * 32) == "abababab"
    assert text.name_of("flights@3") == "flights@3"


def test_columns_are_aligned_without_counting_colour() -> None:
    rows = [[click.style("a", fg="red"), "1"], ["bbb", "22"]]
    assert click.unstyle(text.columns(rows, right=" r")) == "  a     1\n  bbb  22"
    assert text.columns([]) == ""
    assert click.unstyle(text.columns([["x"]], ["name"])) == "  name\n  x"


def test_anything_can_be_shown() -> None:
    assert show.anything([]) == "  nothing"
    assert show.anything("text") == "text"
    assert "flights" in show.anything([{"name": "flights", "rows": 3, "tags": ["a", "b"], "more": {"x": 1}}])
    nested = click.unstyle(show.anything({"ok": True, "empty": None, "list": [{"a": 0.123456789}]}))
    assert nested == "  ok  yes\n  list\n  a\n  0.123457"


def test_the_next_command_is_the_results_own_or_the_tables() -> None:
    assert show.next_command("noria show {name}", {"name": "x", "next": ""}) == "noria show x"
    assert show.next_command("noria show {name}", {"name": "x", "next": "noria run"}) == "noria run"
    assert show.next_command("noria why {run}", [{"run": "run_1"}, {"run": "run_0"}]) == "noria why run_1"
    assert show.next_command("noria why {run}", []) == ""


def test_a_table_and_its_parts_are_never_shown_as_python() -> None:
    row = {"model": "m", "pins": ({"dataset": "d"},), "kept": (), "at": "2026-11-21T04:40:00.000000Z"}
    plain = verbs.builtins([row, {**row, "pins": ()}])
    told = click.unstyle(show.anything(plain))
    assert told == "  model  kept  at\n  m      –     2026-11-21 04:40\n  m      –     2026-11-21 04:40"
    told = click.unstyle(show.anything(verbs.builtins({"inputs": (("a", "text", True),), "none": ()})))
    assert not set(told) & set("()[]{}'"), told


def test_nothing_is_said_in_a_sentence() -> None:
    for words, command in COMMANDS.items():
        if command.empty:
            assert show.render(command.show, [], empty=command.empty) == f"  {command.empty}", words
    assert click.unstyle(show.render("anything", [{"a": 1}], empty="none")) == "  a\n  1"


def test_models_versions_and_releases_are_tables() -> None:
    version = VersionRecord(
        model="m",
        version=2,
        bundle="sha256:" + "ab" * 32,
        run="run_1",
        metrics={"auc": 0.71},
        pins=(Pin(dataset="d", version=3, tree="sha256:" + "cd" * 32),),
        at="2026-11-21T04:40:00.000000Z",
        actor="user:ann",
    )
    listed = ModelInfo(model="m", versions=2, newest=version, aliases={"best": 1}, production=4)
    shown = [
        show.render("models", verbs.builtins([listed])),
        show.render("versions", verbs.builtins([version])),
    ]
    assert "m:2" in shown[0]
    assert "best → 1" in shown[0]
    assert "r4" in shown[0]
    assert "d@3" in shown[1]
    assert not set(click.unstyle("".join(shown))) & set("()[]{}'")


@pytest.mark.parametrize(
    ("kind", "helps"),
    [("record", "noria admin rebuild"), ("object", ".noria/objects"), ("edited", "restore the whole")],
)
def test_an_audit_that_failed_says_what_mends_it(kind: str, helps: str) -> None:
    report = AuditReport(
        ok=False,
        size=9,
        root="",
        checkpoint="",
        first_bad=3,
        kind=kind,
        message="it is not what it was",
        compared=(),
        altered=("sha256:" + "ab" * 32,) if kind == "object" else (),
    )
    found = verbs.builtins(report)
    assert helps in show.help_after("audit", found)
    elsewhere = {**found, "ledger": "postgresql://db/noria"}
    assert ("restore postgresql://db/noria" in show.help_after("audit", elsewhere)) == (kind == "edited")
    said = click.unstyle(show.render("audit", found))
    assert "STOP  the first bad fact is 3" in said
    assert (f".noria/objects/ab/{'ab' * 31}" in said) == (kind == "object")


HOSTILE = "\x1b[2J\x1b]0;t\x07a\nnext: rm -rf /\r\u202e"


def test_what_others_wrote_does_not_act_on_the_terminal_of_who_reads_it() -> None:
    """Every renderer gets its values from one place, where they are made legible."""
    found = [{"about": HOSTILE, HOSTILE: [HOSTILE], "actor": {"name": HOSTILE}, "is": True, "n": 1.5}]
    told = show.plain(found)
    (name,) = told[0].keys() - {"about", "actor", "is", "n"}
    for shown in (told[0]["about"], told[0]["actor"]["name"], name, told[0][name][0]):
        assert shown.replace("\n", "").isprintable()
    assert (told[0]["is"], told[0]["n"]) == (True, 1.5)
    lines = click.unstyle(show.render("anything", found)).splitlines()
    assert all(line.startswith("  ") and line.isprintable() for line in lines)
    assert show.next_command("noria show {about}", found[0]).isprintable(), "in one line"
    pieces = [{"step": "train", "text": "\x1b[32mgreen"}]
    assert Screen().text_of({"pieces": pieces, "is_over": True, "cursor": "{}"}) == "\x1b[32mgreen"


def test_no_value_makes_a_row_of_a_table() -> None:
    shown = text.columns([["a\nb", "1", "x"], ["c", "2", "two\nlines"]], indent="  ")
    assert shown.splitlines() == ["  a\\nb  1  x", "  c     2  two", "           lines"]
    assert text.fields({"note": "one\nnext: two"}).splitlines()[1].startswith("        next")


def test_a_number_that_is_huge_is_not_three_hundred_digits() -> None:
    assert text.decimal(2.38926e299) == "2.39e+299"
    assert text.decimal(-1e15) == "-1e+15"
    assert text.decimal(123456789.4) == "123,456,789"


def test_a_token_is_listed_with_the_project_that_it_is_for() -> None:
    token = {
        "token": "3f9a01c2d4e5",
        "holder": "user:ann",
        "role": "editor",
        "project": "churn",
        "state": "live",
        "expires": "",
        "last_used": "",
        "origin": "",
        "created_by": "user:root",
        "scopes": [],
        "approves": [],
    }
    head, line = (click.unstyle(each) for each in show_people.tokens([token]).splitlines())
    assert head.split()[:5] == ["token", "holder", "role", "project", "state"]
    assert line.split()[:5] == ["3f9a01c2d4e5", "user:ann", "editor", "churn", "live"]


def test_a_whole_number_keeps_its_digits_however_large() -> None:
    """Steps beyond 2**53 came out as the nearest double."""
    assert text.count(2**53 + 1) == "9,007,199,254,740,993"
    curve = {"metric": "m", "run": "r", "total": 1, "steps": [2**63 - 1], "at_us": [0], "values": [1.0]}
    assert "9,223,372,036,854,775,807" in renderer("history")(curve)


def test_a_long_name_does_not_make_every_line_of_a_table_as_long() -> None:
    long = "begin" + "x" * 240 + "end-7"
    found = text.columns([[click.style(long, bold=True), "1"], ["b", "2"]], ["name", "n"]).split("\n")
    assert {click.unstyle(line).rstrip().rfind(each) for line, each in zip(found, "n12", strict=True)} == {64}
    assert "begin" in found[1]
    assert "…" in found[1]
    assert "end-7" in found[1], "what tells names apart is often at their end"
    assert text.columns([["b", long]], ["name", "text"]).endswith(long), "the last column pads nothing"
    assert text.columns([["p" * 90, "1"]]) == f"  {'p' * 90}  1", "what has room is whole"


def test_what_a_step_took_is_shown_whole() -> None:
    """Energy and cost stand at the end of the line, which was cut before them."""
    took = used.used([step_record(name="hog", seconds=0.1)], "EUR")
    because = "code of hog: the function rows in data.py, line 12, and the parameter months"
    steps = [{"step": "hog", "status": "done", "because": because, "document": "", "took": took}]
    link = {"what": "parameters", "ref": "", "text": "", "at": "", "actor": "", "details": {"steps": steps}}
    shown = click.unstyle(show.render("explain", {"id": "r", "kind": "run", "links": [link], "touched": []}))
    assert "cost 0.00012 EUR" in took
    assert " ".join(f"hog done {because} {took}".split()) in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) < 160, "on as many lines as it needs"


def step_record(name: str, seconds: float) -> StepRecord:
    return StepRecord(
        run="run_1",
        step=name,
        key="",
        document="",
        status="done",
        because="",
        outputs=(),
        seconds=seconds,
        cpu_seconds=seconds,
        memory_peak_bytes=128_000_000,
        log="",
        error="",
        reads=(),
        seq=1,
        energy_joules=1.5,
        cost=0.00012,
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [("abc", "abc"), ("abcdef", "abcdef"), ("abcdefg", "abcde…"), ("ab\nabcdefg", "ab"), (None, "None"), ("", "")],
)
def test_what_is_cut_from_a_cell_is_told(given: str | None, shown: str) -> None:
    assert text.short(given, 6) == shown


def test_what_is_left_out_of_a_list_is_told() -> None:
    assert text.first("abc", 3) == "a  b  c"
    assert text.first((letter for letter in "abcd"), 3, ", ") == "a, b, c, …"
    assert text.first([], 3) == ""


def test_a_long_reason_of_a_run_ends_with_a_sign_that_there_is_more() -> None:
    run = {
        "run": "run_1", "status": "failed", "name": "", "pipeline": "p", "experiment": "", "seconds": 1.0, "page": "",
        "started_at": "2026-01-01T00:00:00Z", "metrics": {}, "params": {}, "tags": {}, "reason": "x" * 80, "cause": "",
    }  # fmt: skip
    for shown in (renderer("found_runs")([run]), renderer("runs")([run])):
        assert shown.endswith("x…")
    long = {**run, "metrics": {f"m{number}": 1.0 for number in range(9)}}
    assert renderer("runs")([long]).endswith("  …")
