"""A suite made ready for one file: the watchers that its rules are, and what they need from elsewhere.

What a rule needs and cannot have (a data set that is not there, a profile that was never made) is
no error here: the rule then fails as one that cannot be evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from noria.checks import reference
from noria.checks.evaluate import ColumnCheck
from noria.checks.functions import CheckFunction, FunctionCheck, load_functions
from noria.checks.kinds.files import FILE_KINDS, FileCheck
from noria.checks.rulecheck import RuleCheck, as_rule, short_forms
from noria.checks.scanning import arrays, expression, source
from noria.checks.scanning.expression import Expression, Unreadable
from noria.checks.scanning.summary import ColumnProfile, TableProfile
from noria.checks.scanning.tally import Watcher
from noria.checks.schemacheck import SchemaCheck
from noria.checks.suites.place import suite_path
from noria.checks.suites.rules import KINDS, ColumnRules, Rule, Suite
from noria.checks.wholes import Key, KeyWatch, keys_of
from noria.core.errors import NoriaError, NotFound
from noria.core.frozen import slotted
from noria.core.lazy import lazy
from noria.core.words import no_column
from noria.data.versions import resolve
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

__all__ = ["Prepared", "prepare"]


@slotted
class Prepared:
    """A suite with everything that its rules need; it makes the watchers of each file.

    `depends` are the versions of other data sets that rules look at: "customers@3 sha256:…".
    """

    suite: Suite
    functions: Sequence[CheckFunction]
    rules: tuple[Rule, ...]
    keys: list[Key]
    reference: Mapping[str, ColumnProfile]
    known: dict[str, pa.Array[Any] | str] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    schema: Any = None
    is_keeping: bool = False
    is_hashing: bool = True
    _read: dict[tuple[str, ...], dict[str, Expression | Unreadable]] = field(default_factory=dict)

    @property
    def is_repeatable(self) -> bool:
        """Whether the same files give the same findings: not with Python in it, nor under a clock."""
        return not self.functions and not self.suite.table.fresh and self.schema is None

    def watchers(self, schema: pa.Schema, before: TableProfile | None) -> list[Watcher]:
        """What watches a file: its columns (with or without rules), keys, rules and functions."""
        suite = self.suite
        names = [*schema.names, *(name for name in suite.columns if name not in schema.names)]
        strangers = [name for name in schema.names if name not in suite.columns]
        found: list[Watcher] = [
            ColumnCheck(
                name,
                suite.columns.get(name, ColumnRules()),
                schema,
                before,
                reference=self.reference.get(name),
                strangers=strangers,
                is_keeping=self.is_keeping,
            )
            for name in names
        ]
        found += self.key_watches(schema)
        read = self._expressions(schema)
        for rule in self.rules:
            if rule.rule in FILE_KINDS:
                found.append(FileCheck(rule, schema, is_keeping=self.is_keeping))
            elif rule.rule not in KINDS or KINDS[rule.rule].is_per_row:
                found.append(self._rule(rule, schema, read))
        if self.schema is not None:
            found.append(SchemaCheck(self.schema, schema))
        found += [FunctionCheck(each, schema, is_keeping=self.is_keeping) for each in self.functions]
        return found

    def key_watches(self, schema: pa.Schema) -> list[KeyWatch]:
        """What gathers the keys of a file."""
        return [KeyWatch(key, schema, is_gathering=self.is_hashing) for key in self.keys]

    def _rule(self, rule: Rule, schema: pa.Schema, read: Mapping[str, Expression | Unreadable]) -> RuleCheck:
        if rule.rule != "references":
            return RuleCheck(rule, schema, read, is_keeping=self.is_keeping)
        known = self.known[rule.dataset]
        made = RuleCheck(
            rule, schema, read, known=arrays.texts(()) if isinstance(known, str) else known, is_keeping=self.is_keeping
        )
        if isinstance(known, str):
            made.fault = known
        return made

    def _expressions(self, schema: pa.Schema) -> dict[str, Expression | Unreadable]:
        names = tuple(schema.names)
        if names not in self._read:
            texts = [text for rule in self.rules for text in (rule.where, rule.condition) if text]
            self._read[names] = expression.read_all(texts, names)
        return self._read[names]


def prepare(ws: Workspace, suite: Suite, *, is_keeping: bool = False) -> Prepared:
    """Make a suite ready: its short forms as rules, its functions loaded, the values it refers to read.

    Raises: ProjectError if a file of check functions cannot be run.
    """
    short = [rule for name, rules in suite.columns.items() for rule in short_forms(name, rules)]
    rules = (*short, *map(as_rule, suite.rows), *suite.rules)
    has_shift = any(each.shift is not None for each in suite.columns.values())
    made = Prepared(
        suite=suite,
        functions=load_functions(suite_path(ws, suite.dataset).parent, suite.dataset),
        rules=rules,
        keys=keys_of(suite),
        reference=reference.load(ws, suite.dataset) if has_shift else {},
        schema=SchemaCheck.load(ws.project.root, suite.pandera) if suite.pandera else None,
        is_keeping=is_keeping,
    )
    depends = []
    for rule in rules:
        if rule.rule == "references" and rule.dataset not in made.known:
            made.known[rule.dataset], on = _known(ws, rule.dataset)
            depends.append(on)
        elif rule.rule == "rows" and rule.dataset:
            depends.append(_named(ws, rule.dataset))
    if suite.leakage is not None and suite.leakage.holdout:
        depends.append(_named(ws, suite.leakage.holdout))
    made.depends = tuple(sorted(set(filter(None, depends))))
    return made


def _known(ws: Workspace, place: str) -> tuple[pa.Array[Any] | str, str]:
    """The distinct values of a column of another data set; or why they cannot be had."""
    dataset, _, column = place.rpartition(".")
    try:
        version = resolve(ws, dataset)
    except NotFound as error:
        return error.message, ""
    if column not in version.column_names():
        return f"{version.ref} has {no_column(column, version.column_names())}", ""
    try:
        tables = [source.columns_of(part, [column]) for part in source.parts(ws, version)]
    except NoriaError as error:
        return error.message, ""
    values: Any = pa.concat_tables(tables, promote_options="permissive")[column].unique()
    return values.drop_null(), f"{version.ref} {version.tree}"


def _named(ws: Workspace, ref: str) -> str:
    try:
        version = resolve(ws, ref)
    except NotFound:
        return ""
    return f"{version.ref} {version.tree}"
