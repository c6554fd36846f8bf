"""A version's card as Markdown: tables and sentences, no HTML, no link. Deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.packaging.card import plain_text, sections, table
from noria.registry.drawing import number, range_of

__all__ = ["render"]

MAX_SLICES = 60
_SAID = {"owners": "owners", "intended_use": "intended use", "not_for": "not for", "licence": "licence",
         "limits": "limits"}  # fmt: skip


def render(card: Mapping[str, Any]) -> str:
    """The Markdown of a whole card."""
    head = [f"# {plain_text(card['name'])}:{card['version']}", *_said(card)]
    about = sections(card) if card["signature"] is not None else _of_files(card)
    parts = [
        *head,
        *about,
        *_before(card),
        "## Made",
        table(["", ""], _made(card)),
        "## Training data",
        *_data(card["data"]),
        "## Metrics",
        *_metrics(card),
        *_slices(card["evaluation"]),
        *_groups(card["evaluation"]),
        "## Gates",
        *_gates(card["gates"]),
        "## Limits",
        "\n".join(f"- {plain_text(each)}" for each in card["limits"]) or "None are known.",
        "## Environment",
        *_environment(card),
        "## How to reproduce",
        _again(card["reproduce"]),
    ]
    return "\n\n".join(parts) + "\n"


def _said(card: Mapping[str, Any]) -> list[str]:
    return [plain_text(card["description"])] if card["description"] else []


def _of_files(card: Mapping[str, Any]) -> list[str]:
    said = card["declared"]
    rows = [[name, _declared(said.get(key)) or "not stated"] for key, name in _SAID.items() if key != "limits"]
    return [table(["", ""], [["kept as", f"files of a client, {_code(card['source'])}"], *rows])]


def _before(card: Mapping[str, Any]) -> list[str]:
    """What noria.toml said otherwise when the bundle was made."""
    if not card["declared_before"]:
        return []
    lines = [f"- {_SAID[key]}: {_declared(then) or 'nothing'}" for key, then in card["declared_before"].items()]
    return ["Declared otherwise when the bundle was made:", "\n".join(lines)]


def _declared(value: Any) -> str:
    return plain_text(value if isinstance(value, str) else "; ".join(value or ()))


def _made(card: Mapping[str, Any]) -> list[list[str]]:
    made = card["made"]
    code = made.get("code", {})
    commit = code.get("commit", "")
    rows = [["when", plain_text(made["at"])], ["by", plain_text(made["by"])], ["run", _code(made["run"])]]
    if code:
        where = f"{_code(code['entry'])} at {_code(commit)}" if commit else f"{_code(code['entry'])}, not in git"
        rows += [["code", where + (", with changes that are not in it" if commit and code["dirty"] else "")]]
        rows += [["source files", _code(code["source"])], ["seed", str(made["seed"])]]
    return [*rows, ["bundle", _code(card["bundle"]) if card["bundle"] else "none"]]


def _data(data: Sequence[Mapping[str, Any]]) -> list[str]:
    if not data:
        return ["Not on record."]
    rows = [
        [
            f"{plain_text(each['dataset'])}@{each['version']}",
            "–" if each["rows"] is None else f"{each['rows']:,}",
            plain_text(f"{each['from']} to {each['to']}") if each["from"] else "–",
            _code(each["tree"]) + (" (dropped)" if each["dropped"] else ""),
        ]
        for each in data
    ]
    return [table(["data set", "rows", "times", "tree"], rows)]


def _metrics(card: Mapping[str, Any]) -> list[str]:
    found = card["evaluation"]
    if found is None:
        rows = [[plain_text(name), number(item["value"])] for name, item in card["metrics"].items()]
        said = "Told by who made it; no intervals." if rows else "None are on record."
        return [said, table(["metric", "value"], rows)] if rows else [said]
    share = f", {found['positives']:,} positive" if card["task"] == "binary" else ""
    champion = found["champion"]
    against = f" Champion: version {card['gates']['champion']}, on the same rows." if champion else ""
    rows = []
    for name, item in found["metrics"].items():
        other = champion.get(name)
        beside = [number(other["value"]), range_of(other) or "–"] if other else ["–", "–"]
        cells = [plain_text(name), number(item["value"]), range_of(item) or "–", plain_text(item["better"])]
        rows.append(cells + (beside if champion else []))
    head = ["metric", "value", "interval", "better", *(["champion", "interval"] if champion else [])]
    return [f"{found['rows']:,} labelled rows{share}; intervals at {found['level']:.0%}.{against}", table(head, rows)]


def _slices(found: Mapping[str, Any] | None) -> list[str]:
    if found is None or not found["slices"]:
        return []
    names = found["order"]
    shown = sorted(found["slices"], key=lambda part: -part["n"])[:MAX_SLICES]
    rows = [
        [
            f"{plain_text(part['column'])} = {plain_text(part['level'])}",
            f"{part['n']:,}",
            *(number(part["metrics"].get(name)) for name in names),
        ]
        for part in shown
    ]
    note = [f"The {len(shown)} largest of {len(found['slices'])}."] if len(found["slices"]) > len(shown) else []
    return ["### Slices", *note, table(["slice", "rows", *map(plain_text, names)], rows)]


def _groups(found: Mapping[str, Any] | None) -> list[str]:
    if found is None or not found["groups"]:
        return []
    names = {"called": "called positive", "hits": "positives found", "false_alarms": "negatives called positive"}
    rows = [
        [
            f"{plain_text(part['column'])} = {plain_text(part['level'])}",
            f"{part['n']:,}",
            *(f"{number(part[key]['value'])} {range_of(part[key])}".strip() for key in names),
        ]
        for part in found["groups"]
    ]
    return ["### Groups", table(["group", "rows", *names.values()], rows)]


def _gates(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["No gate has judged it."]
    rows = [["yes" if v["passed"] else "no", plain_text(v["gate"]), plain_text(v["text"])] for v in found["verdicts"]]
    word = "Passed" if found["passed"] else "Refused"
    against = f"against version {found['champion']}" if found["champion"] else "with no champion"
    return [f"{word} {plain_text(found['at'])}, {against}.", table(["", "gate", "what it said"], rows)]


def _environment(card: Mapping[str, Any]) -> list[str]:
    lock, needs = card["environment"], card["requires"]
    lines = [f"- {plain_text(name)} {plain_text(version)}" for name, version in needs.items()]
    told = ["Its files need:", "\n".join(lines)] if lines else []
    if not lock["digest"]:
        return [*told, "No lock of the environment is on record."]
    python = f"{plain_text(lock['implementation'])} {plain_text(lock['python'])}"
    where = f"{plain_text(lock['system'])} {plain_text(lock['machine'])}"
    count = len(lock["packages"])
    return [*told, f"Made with {python} on {where}, {count} distributions; lock {_code(lock['digest'])}."]


def _again(commands: Sequence[str]) -> str:
    if not commands:
        return "No run that made it is on record here."
    return "\n".join(["```sh", *commands, "```"])


def _code(text: str) -> str:
    """A name of the ledger, as code; what could end the code or the cell is left out."""
    plain = " ".join(str(text).split()).replace("`", "").replace("|", "")
    return f"`{plain}`" if plain else "–"
