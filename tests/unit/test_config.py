"""noria.toml: every key has one place, and a mistake names it."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.config import GateRule, find_project, load_project, parse_project
from noria.core.errors import ConfigError, NotAProject

ROOT = Path("/project")


def parse(document: dict[str, Any], **environment: str) -> Any:
    """A project of this document, with a name."""
    return parse_project({"project": {"name": "shop"}, **document}, root=ROOT, environment=environment)


def test_a_name_is_enough_and_the_rest_has_defaults() -> None:
    project = parse({})
    assert (project.name, project.clock, project.pipeline, project.seed) == ("shop", "wall", "pipeline.py", 0)
    assert project.state == ROOT / ".noria"
    assert project.server.host == "127.0.0.1"
    assert project.model("unknown").deploy.path[-1] == "100%"


@pytest.mark.parametrize(
    ("document", "said", "hint"),
    [
        ({"modle": {}}, "no table [modle]", "did you mean 'model'?"),
        ({"project": {"name": "x", "sede": 1}}, "[project] has no key 'sede'", "did you mean 'seed'?"),
        ({"data": {"a": {"sorce": "x"}}}, "[data.a] has no key 'sorce'", "did you mean 'source'?"),
        ({"model": {"m": {"gat": {}}}}, "[model.m] has no key 'gat'", "did you mean 'gate'?"),
        ({"model": {"m": {"retrain": {"limits": {"cool": "1d"}}}}}, "has no key 'cool'", "did you mean 'cooldown'?"),
        ({"model": {"m": {"gate": {"auc": {"mni": 1}}}}}, "has no key 'mni'", "did you mean 'min'?"),
        ({"server": {"prot": 1}}, "[server] has no key 'prot'", "did you mean 'port'?"),
        (
            {"zzz": {}},
            "no table [zzz]",
            "valid keys: access, data, env, model, project, remote, reproduce, run, schedule, server, store, webhooks",
        ),
    ],
)
def test_a_typo_names_the_nearest_key(document: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(document)
    assert said in error.value.message
    assert error.value.hint == hint
    assert error.value.where.endswith("noria.toml")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"project": {}}, 'needs name = "…"'),
        ({"project": {"nam": "x"}}, "nam"),
        ({"project": {"name": ""}}, "needs name"),
        ({"project": {"name": 3}}, "needs name"),
        ({"project": []}, "project must be a table"),
        ({"project": {"name": "x", "clock": "sun"}}, 'clock is "sun"'),
        ({"project": {"name": "x", "seed": "1"}}, "seed must be a whole number"),
        ({"project": {"name": "x", "seed": True}}, "seed must be a whole number"),
        ({"server": {"port": "4400"}}, "port must be a whole number"),
        ({"model": {"m": {"gate": {"auc": 0.7}}}}, "has no key 'auc'"),
        ({"model": {"m": {"gate": {"auc": {}}}}}, "states no rule"),
        ({"model": {"m": {"gate": {"auc": {"champion": "fine"}}}}}, 'champion is "fine"'),
        ({"model": {"m": {"gate": {"inputs": "some"}}}}, 'inputs is "some", not "same" or "any"'),
        ({"model": {"m": {"gate": {"slices": {"auc": {"drop": 1}}}}}}, "has no key 'drop'"),
        ({"model": {"m": {"deploy": {"approve": "lead"}}}}, "approve must be a list of texts"),
        ({"model": {"m": {"deploy": {"abort": {"errors": "x"}}}}}, "abort.errors must be a number"),
        ({"model": 3}, "model must be a table"),
    ],
)
def test_a_wrong_value_is_named(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(document)
    assert said in error.value.message


def test_gates_hold_metrics_and_named_rules_apart() -> None:
    gate = (
        parse(
            {
                "model": {
                    "m": {
                        "gate": {
                            "auc": {"min": 0.7, "champion": "not worse", "margin": 0.01},
                            "slices": {"auc": {"max_drop": 0.03}},
                            "latency_p99_ms": 20,
                        }
                    }
                }
            }
        )
        .model("m")
        .gate
    )
    assert gate.metrics == {"auc": GateRule(min=0.7, champion="not worse", margin=0.01)}
    assert gate.slices == {"auc": {"max_drop": 0.03}}
    assert gate.latency_p99_ms == 20.0


def test_the_environment_wins_over_the_file() -> None:
    project = parse(
        {"server": {"host": "127.0.0.1", "port": 1}, "store": {"database": "x"}},
        NORIA_HOST="::1", NORIA_PORT="4401", NORIA_TOKEN="t", NORIA_DATABASE="y", NORIA_OBJECTS="z",
        NORIA_CLOCK="events", NORIA_SYSTEM_METRICS="false",
    )  # fmt: skip
    assert (project.run.system_metrics, parse({}).run.system_metrics) == (False, True)
    assert parse({"run": {"system_metrics": False}}, NORIA_SYSTEM_METRICS="true").run.system_metrics
    assert (project.server.host, project.server.port, project.server.token) == ("::1", 4401, "t")
    assert (project.store.database, project.store.objects, project.clock) == ("y", "z", "events")


def test_a_bad_environment_is_named() -> None:
    with pytest.raises(ConfigError, match="NORIA_PORT=x"):
        parse({}, NORIA_PORT="x")
    with pytest.raises(ConfigError, match='NORIA_CLOCK is "moon"'):
        parse({}, NORIA_CLOCK="moon")
    with pytest.raises(ConfigError, match='NORIA_SYSTEM_METRICS is "1"'):
        parse({}, NORIA_SYSTEM_METRICS="1")


def test_a_project_is_found_from_below_and_not_from_outside(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "x"\n', encoding="utf-8")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == tmp_path.resolve()
    with pytest.raises(NotAProject):
        find_project(Path("/"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[project", "not valid TOML"),
        (b"name = \xff", "not UTF-8"),
        (b"", "needs name"),
        (b"\xef\xbb\xbf[project]\nnam = 'x'", "nam"),
        (b'[project]\nname="x"\nname="y"', "TOML"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "noria.toml").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_project(tmp_path, environment={})
    assert said in error.value.message
    assert len(str(error.value).splitlines()) <= 6


def test_a_missing_file_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(NotAProject):
        load_project(tmp_path, environment={})


json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
sections = st.sampled_from(["project", "data", "model", "server", "store", "env", "gate", "deploy", "path", "name"])
documents = st.recursive(json_values, lambda inner: st.dictionaries(sections, inner, max_size=4), max_leaves=12)


@given(st.dictionaries(sections, documents, max_size=5))
def test_whatever_a_file_says_gives_a_project_or_a_config_error(document: dict[str, Any]) -> None:
    with suppress(ConfigError):
        parse_project(document, root=ROOT, environment={})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "noria.toml").write_text(f'[project]\nname = "x"\n[model.m.gate]\nauc = {{ min = {text} }}\n')
    with pytest.raises(ConfigError, match=r"model\.m\.gate\.auc\.min must be a finite number"):
        load_project(tmp_path, environment={})


def test_a_length_of_time_is_checked_when_the_file_is_read(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n[model.m.retrain]\nlimits = { cooldown = "1 fortnight" }\n'
    (tmp_path / "noria.toml").write_text(text)
    with pytest.raises(ConfigError, match="cooldown: '1 fortnight' is not a duration"):
        load_project(tmp_path, environment={})


def test_the_bound_of_the_cache_is_a_size() -> None:
    assert parse({"store": {"cache": "5GB"}}).store.cache == "5GB"
    for bad in ("5 gigabytes", "", "-1GB", "infGB"):
        with pytest.raises(ConfigError, match=r"store\.cache: .* is not a size such as"):
            parse({"store": {"cache": bad}})
    with pytest.raises(ConfigError, match=r"store\.cache must be a text"):
        parse({"store": {"cache": 5}})


def test_a_realtime_priority_is_asked_for_by_itself_or_not_at_all() -> None:
    assert parse({}).server.realtime == "auto"
    assert parse({"server": {"realtime": "off"}}).server.realtime == "off"
    with pytest.raises(ConfigError, match=r'server\.realtime is "on"'):
        parse({"server": {"realtime": "on"}})


def test_artifacts_go_through_the_server_or_past_it() -> None:
    assert parse({}).server.artifacts == "server"
    assert parse({"server": {"artifacts": "direct"}}).server.artifacts == "direct"
    with pytest.raises(ConfigError, match=r'server\.artifacts is "both"'):
        parse({"server": {"artifacts": "both"}})


@pytest.mark.parametrize("nice", [-1, 20])
def test_how_far_training_stands_back_has_bounds(nice: int) -> None:
    with pytest.raises(ConfigError, match=f"run.nice is {nice}, not from 0 to 19"):
        parse({"run": {"nice": nice}})
    assert parse({"run": {"nice": 0}}).run.nice == 0
    assert parse({}).run.nice == 10


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"on_failure": "go on"}, 'run.on_failure is "go on"'),
        ({"workers": -1}, "run.workers is -1"),
        ({"window": -2}, "run.window is -2"),
        ({"cost": {"per_kwh": -1}}, "run.cost.per_kwh is -1"),
    ],
)
def test_how_pipelines_are_executed_is_checked(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse({"run": table})


@pytest.mark.parametrize("limit", ["per_week = -1", "budget_per_week = -0.5"])
def test_a_limit_below_nothing_is_named(tmp_path: Path, limit: str) -> None:
    (tmp_path / "noria.toml").write_text(
        f'[project]\nname = "p"\n[model.m.retrain]\nlimits = {{ {limit} }}\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"model\.m\.retrain\.limits\.\w+ must not be below 0"):
        load_project(tmp_path, environment={})


WORKLOAD = {"issuer": "https://ci.test", "audience": "noria", "allow": [{"match": {"repository": "acme/churn"}}]}
LOGIN = {"issuer": "https://sso.test/realms/acme", "client_id": "noria", "roles": {"viewer": ["all"]}}
ACCESS = {"url": "https://noria.test", "login": {"corp": LOGIN}, "workload": {"github": WORKLOAD}}


def test_providers_of_identities_are_read_with_their_rules() -> None:
    found = parse({"access": ACCESS}).access
    (rule,) = found.workload["github"].allow
    assert (rule.match, rule.role, rule.ttl) == ({"repository": ("acme/churn",)}, "viewer", "15m")
    assert found.login["corp"].roles == {"viewer": ("all",)}
    assert found.login["corp"].scopes == ("openid", "profile")
    assert found.origins == {"login/corp", "workload/github"}
    assert not parse({}).access.has_providers
    assert parse({"access": {"url": "http://127.0.0.1:4400"}}).access.url == "http://127.0.0.1:4400"


def in_access(path: str, value: Any) -> dict[str, Any]:
    """`[access]` with one value changed, or taken away by None."""
    document: dict[str, Any] = copy.deepcopy(ACCESS)
    *way, last = path.split(".")
    at: Any = document
    for part in way:
        at = at[int(part)] if part.isdigit() else at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return {"access": document}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("workload.github.issuer", None, "issuer is missing"),
        ("workload.github.issuer", "http://ci.test", "must begin with https://"),
        ("workload.github.issuer", "http://127.0.0.1.evil.test", "must begin with https://"),
        ("workload.github.issuer", "ftp://127.0.0.1", "must begin with https://"),
        ("workload.github.issuer", "https://user:pass@ci.test", "no address"),
        ("workload.github.issuer", "https://ci.test?x", "a query or a fragment"),
        ("workload.github.issuer", "https://ci.test#", "a query or a fragment"),
        ("workload.github.issuer", "https://[ci", "no address"),
        ("workload.github.issuer", "https://ci.test\n", "no address"),
        ("workload.github.audience", None, "has no audience"),
        ("workload.github.audiense", "x", "has no key 'audiense'"),
        ("workload.github.allow", {}, "must be a list of tables"),
        ("workload.github.allow.0.rol", "x", "has no key 'rol'"),
        ("workload.github.allow.0.role", "approver", 'role is "approver"'),
        ("workload.github.allow.0.role", "admin", 'role is "admin"'),
        ("workload.github.allow.0.ttl", "61m", "at most 1h"),
        ("workload.github.allow.0.ttl", "0s", "more than nothing"),
        ("workload.github.allow.0.ttl", "soon", "not a duration"),
        ("workload.github.allow.0.match", {}, "matches nothing"),
        ("workload.github.allow.0.match", {"sub": []}, "matches nothing"),
        ("workload.github.allow.0.match", {"sub": "**", "ref": "*/main"}, "matches anybody"),
        ("workload.github.allow.0.match", {"sub": ""}, "matches anybody"),
        ("workload.github.allow.0.match", {"sub": 7}, "must be a list of texts"),
        ("workload.git_hub", WORKLOAD, "no name of a provider"),
        ("workload.other", WORKLOAD, "the issuer of another"),
        ("login.corp.client_id", None, "has no client_id"),
        ("login.corp.client_secret", "hunter2", "is no reference"),
        ("login.corp.client_secret", "env:A B", "is no reference"),
        ("login.corp.scopes", ["profile"], 'scopes lack "openid"'),
        ("login.corp.roles", {}, "gives nobody a role"),
        ("login.corp.roles", {"viewer": []}, "gives nobody a role"),
        ("login.corp.roles", {"approvr": ["x"]}, "has no key 'approvr'"),
        ("login.corp.approves", {"ml lead": ["x"]}, "no name of a role"),
        ("login.corp.session", "25h", "at most 24h"),
        ("url", None, "access.url is missing"),
        ("url", "https://noria.test/path", "more than scheme, host and port"),
        ("url", "http://noria.test", "must begin with https://"),
        ("logn", {}, "has no key 'logn'"),
    ],
)
def test_what_is_wrong_about_providers_is_told(path: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(in_access(path, value))
    assert said in error.value.message
    assert error.value.where.endswith("noria.toml")
    assert "hunter2" not in str(error.value)
    assert "pass@" not in str(error.value)


def test_a_role_that_is_mistyped_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        parse(in_access("login.corp.roles", {"approvr": ["x"]}))
    assert error.value.hint == "did you mean 'approver'?"
