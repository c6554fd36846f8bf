"""The logic of a diagnosis on a step that is a formula: each cause is told from all others, none is made up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from noria.project.again import causes
from noria.project.again.diagnose import HELD, THREAD_VARIABLES, Evidence, Probe, diagnose
from noria.project.again.names import aligned

HOST: Mapping[str, Any] = {
    "timezone": "UTC", "locale": "C.UTF-8", "hash_seed": "random", "cores": 2, "cpu": "new",
    "flags": ["sse4_2", "avx", "avx2", "avx512f"], "variables": {},
}  # fmt: skip
Step = Callable[[Mapping[str, str], Mapping[str, str | None]], Any]
_chance = itertools.count()


def prober(step: Step, kinds: tuple[str, ...] = (), reads: Mapping[str, str] | None = None) -> Any:
    """A step that is a function of its conditions, and that asks for these kinds of chance."""
    seen = tuple({"kind": kind, "what": f"{kind}()", "where": "pipeline.py:3"} for kind in kinds)

    def probe(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Probe:
        return Probe(outputs=(str(step(settings, variables)),), types=("plain",), seen=seen, reads=dict(reads or {}))

    return probe


def evidence(recorded: str = "then", made: str = "now", **changed: Any) -> Evidence:
    known: dict[str, Any] = {
        "step": "s", "recorded": (recorded,), "made": (made,), "error": "", "then": {}, "now": {},
        "reads": ({}, {}), "hosts": (HOST, HOST), "locks": ({}, {}),
        "at": "2026-01-02T03:04:05.000000Z", "seconds": 1.0,
    }  # fmt: skip
    return Evidence(**{**known, **changed})


def kinds(found: list[causes.Cause]) -> list[tuple[str, str]]:
    return [(cause.kind, cause.sure) for cause in found]


ALL = ("random", "uuid", "time", "process", "address", "parallel")


@pytest.mark.parametrize("kind", ALL)
def test_of_all_kinds_that_are_seen_only_the_one_that_matters_is_named(kind: str) -> None:
    def step(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return settings.get(kind) or next(_chance)

    found = diagnose(evidence(), prober(step, ALL), lambda _: False)
    wanted = {
        "random": causes.RANDOM, "uuid": causes.UUID, "time": causes.TIME,
        "process": causes.PROCESS, "address": causes.ADDRESS, "parallel": causes.ORDER,
    }[kind]  # fmt: skip
    assert kinds(found) == [(wanted, "proved")]


@pytest.mark.parametrize(("by", "blamed"), [("random", "random.random()"), ("urandom", "os.urandom()")])
def test_what_the_system_gives_is_blamed_only_if_the_output_follows_it(by: str, blamed: str) -> None:
    seen = tuple({"kind": "random", "what": what, "where": "p.py:3"} for what in ("os.urandom()", "random.random()"))

    def probe(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Probe:
        value = settings.get(by) or settings.get("random") or str(next(_chance))
        return Probe(outputs=(value,), types=("plain",), seen=seen)

    (found,) = diagnose(evidence(), probe, lambda _: False)
    assert (found.kind, found.sure) == (causes.RANDOM, "proved")
    assert found.evidence.endswith(blamed)


def test_two_causes_are_both_named() -> None:
    def step(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return (settings.get("random") or next(_chance), settings.get("time") or next(_chance))

    found = diagnose(evidence(), prober(step, ALL), lambda _: False)
    assert set(kinds(found)) == {(causes.RANDOM, "proved"), (causes.TIME, "proved")}


def test_hash_seed_and_threads_by_their_variables() -> None:
    def by_hash(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return variables.get("PYTHONHASHSEED") or next(_chance)

    def by_threads(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return variables.get("OMP_NUM_THREADS") or next(_chance)

    assert kinds(diagnose(evidence(), prober(by_hash, ALL), lambda _: False)) == [(causes.HASH, "proved")]
    assert kinds(diagnose(evidence(), prober(by_threads), lambda _: False)) == [(causes.THREADS, "proved")]
    assert kinds(diagnose(evidence(), prober(by_threads), lambda _: True)) == [(causes.REDUCTION, "proved")]


def test_what_varies_with_everything_held_is_not_blamed_on_what_is_held() -> None:
    found = diagnose(evidence(), prober(lambda *_: next(_chance), ALL), lambda _: False)
    assert kinds(found) == [(causes.UNKNOWN, "left")]
    reads = {"note connects to ('10.0.0.1', 80)": ""}
    found = diagnose(evidence(), prober(lambda *_: next(_chance), ALL, reads), lambda _: False)
    assert kinds(found) == [(causes.NETWORK, "differs")]


@pytest.mark.parametrize(
    ("then", "wanted", "variables"),
    [
        ({"timezone": "Asia/Tokyo"}, causes.ZONE, {"TZ": "Asia/Tokyo"}),
        ({"locale": "de_DE.UTF-8"}, causes.LOCALE, {"LC_ALL": "de_DE.UTF-8"}),
        ({"hash_seed": "5"}, causes.HASH, {"PYTHONHASHSEED": "5"}),
        ({"variables": {"OMP_NUM_THREADS": "7"}}, causes.THREADS, {"OMP_NUM_THREADS": "7"}),
        ({"variables": {"MKL_CBWR": "AVX"}}, causes.HARDWARE, {"MKL_CBWR": "AVX"}),
        ({"cpu": "old", "flags": ["sse4_2", "avx", "avx2"]}, causes.HARDWARE, {"OPENBLAS_CORETYPE": "Haswell"}),
        ({"cores": 61}, causes.THREADS, dict.fromkeys(THREAD_VARIABLES, "61")),
    ],
)
def test_what_the_machine_was_is_put_back_one_thing_at_a_time(
    then: Mapping[str, Any], wanted: str, variables: Mapping[str, str]
) -> None:
    def step(settings: Mapping[str, str], given: Mapping[str, str | None]) -> Any:
        return "then" if all(given.get(name) == value for name, value in variables.items()) else "now"

    found = diagnose(evidence(hosts=({**HOST, **then}, HOST)), prober(step), lambda _: False)
    assert kinds(found) == [(wanted, "proved")]
    # the same machine difference, and a step that does not follow it: nothing is proved
    other = diagnose(evidence(hosts=({**HOST, **then}, HOST)), prober(lambda *_: "now"), lambda _: False)
    assert "proved" not in {cause.sure for cause in other}


def test_the_day_on_which_it_ran_is_put_back() -> None:
    """`date.today()` gives the same all day, so the step agrees with itself; its clock is set to the day of the run."""

    def step(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return "then" if int(settings.get("time", 0)) // 86_400_000_000_000 == 20455 else "now"

    found = diagnose(evidence(), prober(step, ("time",)), lambda _: False)
    assert kinds(found) == [(causes.TIME, "proved")]
    assert "2026-01-02T03:04:05Z" in found[0].evidence


def test_what_is_on_record_as_another_is_told_when_nothing_can_be_put_back() -> None:
    known = evidence(
        then={"names": {"step s": "a", "constant tiny.RATE": "c"}, "env": {"packages": {"numpy": "1.0"}}},
        now={"names": {"step s": "b", "constant tiny.RATE": "d"}, "env": {"packages": {"numpy": "2.0"}}},
        reads=(
            {"variable HOME": "a" * 64, "file x.csv": "b" * 64, "stat y": "c"},
            {"variable HOME": "d" * 64, "file x.csv": "missing", "stat y": "c"},
        ),
        locks=({"packages": {"numpy": "1.0", "tiny-dist": "1"}}, {"packages": {"numpy": "2.0", "tiny-dist": "2"}}),
        roots={"tiny": "tiny-dist"},
    )
    found = diagnose(known, prober(lambda *_: "now"), lambda _: False)
    assert kinds(found) == [
        (causes.PACKAGE, "differs"),
        (causes.CODE, "differs"),
        (causes.PACKAGE, "differs"),
        (causes.VARIABLE, "differs"),
        (causes.FILE, "differs"),
    ]
    assert "numpy 1.0 -> 2.0" in found[0].evidence
    assert "tiny-dist 1 -> 2" in found[2].evidence
    assert "x.csv is not there any more" in found[4].evidence


def test_a_step_that_gives_the_record_alone_was_disturbed_by_another() -> None:
    found = diagnose(evidence(), prober(lambda *_: "then"), lambda _: False)
    assert kinds(found) == [(causes.STATE, "proved")]


def test_a_coin_that_falls_alike_three_times_is_no_state_of_another_step() -> None:
    falls = iter(["then", "then", "now"])

    def coin(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return settings.get("random") or next(falls, "now")

    assert kinds(diagnose(evidence(), prober(coin, ("random",)), lambda _: False)) == [(causes.RANDOM, "proved")]


def test_what_nothing_explains_is_given_up_after_few_runs() -> None:
    runs: list[Mapping[str, str]] = []

    def step(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        runs.append(settings)
        return "now"

    assert kinds(diagnose(evidence(), prober(step, ALL), lambda _: False)) == [(causes.UNKNOWN, "left")]
    assert len(runs) <= 9, "what chance can enter by is varied all at once first"


def test_the_folder_of_the_project_is_told_from_what_is_steady() -> None:
    def step(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Any:
        return "moved" if settings.get("folder") else "now"

    assert kinds(diagnose(evidence(), prober(step), lambda _: False)) == [(causes.FOLDER, "proved")]


def test_a_file_has_one_name_in_two_folders() -> None:
    roots = Path("/home/a/project"), Path("/tmp/place")
    then = {"file ../rates": "1", "stat data/x": "2", "file ../../b": "3", "module m": "4", "file ../same": "5"}
    now = {
        "file ../../home/a/rates": "6",
        "stat data/x": "7",
        "file ../other": "8",
        "module m": "4",
        "file ../same": "9",
    }
    was, is_ = aligned(then, now, roots)
    assert was == {"file /home/a/rates": "1", **{name: then[name] for name in list(then)[1:]}}
    assert is_ == {"file /home/a/rates": "6", **{name: now[name] for name in list(now)[1:]}}


def test_every_kind_has_a_hint_and_the_held_conditions_cover_every_kind_of_chance() -> None:
    assert all(causes.HINTS[kind] for kind in causes.KINDS)
    assert set(HELD) == set(ALL)
