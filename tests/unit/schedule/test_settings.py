"""`[schedule.NAME]` in noria.toml: a typo names the nearest key, and what cannot be carried out is refused at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from noria.config import parse_project
from noria.core.errors import ConfigError
from noria.schedule import settings

HEAD = '[project]\nname = "p"\n[data.sales]\nsource = "sales.csv"\n[schedule.nightly]\n'


def read(text: str) -> None:
    project = parse_project(tomllib.loads(HEAD + text), root=Path("/p"), environment={})
    settings.require(project)


def test_everything_that_a_schedule_may_say_is_taken() -> None:
    read(
        """cron = "0 4 * * *"
timezone = "Europe/Berlin"
do = ["data add sales", "data check sales", "data watch", "data watch sales", "run"]
params = { "load.day" = "{date}", "load.part" = "{partition}", "train.rate" = 0.1, "train.deep" = true }
partitions = ["DE", "2026-11"]
catch_up = "all"
overlap = "queue"
grace = "1h"
"""
    )
    read('every = "6h"\nstart = "2026-01-01T06:00"\ndo = "run"')
    read("""every = "6h"\nparams = { "load.filter" = '{"a": {"b": 1}}' }""")


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ('crom = "0 4 * * *"', "'crom'", "'cron'"),
        ('every = "6h"\ncatchup = "all"', "'catchup'", "'catch_up'"),
        ('every = "6h"\ncatch_up = "lates"', '"lates"', "'latest'"),
        ('every = "6h"\noverlap = "skp"', '"skp"', "'skip'"),
        ('every = "6h"\ngrace = "soon"', "grace", ""),
        ('every = "6 hours"', "every", ""),
        ('every = "6h"\ndo = "rum"', "'rum'", "'run'"),
        ('every = "6h"\ndo = []', "do is empty", "run"),
        ('every = "6h"\ndo = "data add"', "without a data set", "NAME"),
        ('every = "6h"\ndo = "data add sale"', "no source", "'sales'"),
        ('every = "6h"\nparams = { "load.day" = "{dat}" }', "{dat}", "'date'"),
        ('every = "6h"\nparams = { "load.day" = "{partition}" }', "no partitions", ""),
        ('every = "6h"\nparams = { "load.day" = [1] }', "load.day", ""),
        ('every = "6h"\ndo = "data watch"\nparams = { "a.b" = 1 }', 'no "run"', ""),
        ('every = "6h"\npartitions = ["a", "a"]', "twice", ""),
        ('every = "6h"\npartitions = ["a/b"]', "'a/b'", ""),
        ("every = 6", "every", ""),
        ('every = "6h"\nparams = { "load.day" = "{date" }', "half of its braces", "{date}"),
        ('every = "6h"\nparams = { "load.day" = "of date}" }', "half of its braces", "{date}"),
        ('every = "6h"\nparams = { "load.day" = "{ due }" }', "half of its braces", "{due}"),
        ('every = "6h"\nstart = 2026-01-01T00:00:00Z', "not 2026-01-01T00:00:00+00:00", 'start = "2026-01-01T00'),
        ('every = "6h"\nstart = 2026-01-01', "not 2026-01-01", 'start = "2026-01-01"'),
        ('every = "6h"\noverlap = true', "must be a text, not true", 'overlap = "…"'),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(text: str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert says in str(caught.value)
    assert hint in caught.value.hint
    assert "noria.toml" in caught.value.where
