"""The table of commands: words -> "module:function", and what `--help` says of each.

Static on purpose: `noria --help` imports click and this file only, and a typed command imports one
module. A test holds the table against the verbs that are collected from the code: every verb has
exactly one command, and every command's target exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["COMMANDS", "GROUPS", "Command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    `target` names a verb, or with `is_own` a click command of this package. `positional` are
    arguments with a default that may be given without their name; `rename` maps a parameter to the
    option's name; `next` is printed at the end, with the result's fields in braces; `fail_unless`
    names a field of the result that must be true, else the exit code is 1. `fixed` are arguments
    that the command itself gives. `quick` names a function that answers the same from the project's
    files, without the ledger: `f(project, open_objects, **arguments)`; it is asked when no server is.
    """

    target: str
    summary: str
    examples: tuple[str, ...]
    is_own: bool = False
    positional: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str | bool] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    show: str = "anything"
    next: str = ""
    fail_unless: str = ""
    is_slow: bool = False
    quick: str = ""


GROUPS: Mapping[str, tuple[str, ...]] = {
    "start": ("init", "up", "status"),
    "build": ("data", "run", "runs", "why", "test", "diff"),
    "ship": ("approve", "deploy", "promote", "rollback"),
    "live": ("watch", "explain", "report"),
    "trust": ("audit",),
    "come and go": ("import", "export"),
    "run it": ("admin",),
}

COMMANDS: Mapping[str, Command] = {
    "init": Command(
        target="noria.faces.cli.start:init_command",
        summary="Make a project from a template, for your own table or the demo's flights",
        examples=(),
        is_own=True,
    ),
    "up": Command(
        target="noria.faces.cli.up:up_command",
        summary="Serve the project: predictions, feedback, status page, and the loop",
        examples=(),
        is_own=True,
    ),
    "status": Command(
        target="noria.project.status:status",
        summary="What is live, how well it does, what is going on, what needs eyes",
        examples=("noria status", "noria status --json"),
        show="status",
    ),
    "data add": Command(
        target="noria.data.versions:add",
        summary="Add a file, a folder, a database's table or a prefix of an object store",
        examples=(
            "noria data add customers.csv --name customers",
            "noria data add data/photos --note 'March'",
            "noria data add sqlite:///shop.db --table orders --name orders",
        ),
        show="data",
        next="noria data check {name}",
        is_slow=True,
    ),
    "data check": Command(
        target="noria.faces.cli.data:check_command",
        summary="Check a version against its rules; --infer writes the rules first",
        examples=(),
        is_own=True,
    ),
    "data checkout": Command(
        target="noria.data.versions:checkout",
        summary="Write the files of a version into a folder, or a part of them",
        examples=(
            "noria data checkout customers@2 /tmp/customers",
            "noria data checkout photos@2013-03 --path train/cats --into data/photos",
            "noria data checkout photos@latest~1",
        ),
        positional=("to",),
        show="checked_out",
        next="ls {to}",
        is_slow=True,
    ),
    "data describe": Command(
        target="noria.data.versions:describe",
        summary="Say which columns are the key, the time and the label",
        examples=(
            "noria data describe customers --label churned",
            "noria data describe customers@2 --key id --time at",
        ),
        show="data",
        next="noria run",
    ),
    "data diff": Command(
        target="noria.data.diff:diff",
        summary="Compare two versions: schema, rows, and how columns moved",
        examples=("noria data diff customers", "noria data diff customers@1 customers@2 --json"),
        positional=("b",),
        show="table_diff",
        is_slow=True,
    ),
    "data list": Command(
        target="noria.data.versions:list_datasets",
        summary="The newest version of every data set",
        examples=("noria data list", "noria data list --json"),
        show="data_log",
        next="noria data log {name}",
    ),
    "data log": Command(
        target="noria.data.versions:log",
        summary="Every version of a data set, newest first",
        examples=("noria data log customers", "noria data log customers --limit 5"),
        show="data_log",
        next="noria data show {name}",
    ),
    "data show": Command(
        target="noria.data.versions:show",
        summary="A version with its columns, files and tags",
        examples=("noria data show customers", "noria data show photos@2 train/cats"),
        positional=("path",),
        show="data_files",
    ),
    "data status": Command(
        target="noria.data.status:status",
        summary="What has changed on disk since the versions that the project stands on",
        examples=("noria data status", "noria data status photos"),
        positional=("names",),
        show="data_status",
        is_slow=True,
        quick="noria.data.worktree:statuses",
    ),
    "data tag": Command(
        target="noria.data.versions:tag",
        summary="Name a version with a tag; a tag that exists moves",
        examples=("noria data tag customers@3 audited", "noria data tag customers q4"),
        show="data",
    ),
    "data remove-tag": Command(
        target="noria.data.versions:remove_tag",
        summary="Take a tag away; the version that it named stays",
        examples=("noria data remove-tag customers audited", "noria data remove-tag customers q4 --json"),
        show="data",
    ),
    "data verify": Command(
        target="noria.data.verify:verify",
        summary="Read every stored byte anew, and heal from a remote what is altered or missing",
        examples=("noria data verify", "noria data verify customers@3 photos"),
        positional=("refs",),
        show="data_verify",
        fail_unless="ok",
        is_slow=True,
    ),
    "data gc": Command(
        target="noria.data.collect:gc",
        summary="Say what nothing names any more; --sweep takes it away, with a week's grace",
        examples=("noria data gc", "noria data gc --sweep"),
        show="data_gc",
        is_slow=True,
    ),
    "data push": Command(
        target="noria.data.transfer:push",
        summary="Send versions to a remote; what it has is not sent again",
        examples=("noria data push", "noria data push customers@3 --remote backup"),
        positional=("refs",),
        show="transferred",
        is_slow=True,
    ),
    "data pull": Command(
        target="noria.data.transfer:pull",
        summary="Bring the versions that the pins in noria.lock/ name, or others, from a remote",
        examples=("noria data pull", "noria data pull customers --history --remote origin"),
        positional=("refs",),
        show="transferred",
        is_slow=True,
    ),
    "data link": Command(
        target="noria.data.gitlink:link",
        summary="Let git merge data sets in this clone; --hooks: push data with their pins",
        examples=("noria data link", "noria data link --hooks"),
    ),
    "data hook": Command(
        target="noria.faces.cli.git:hook_command",
        summary="Let pushes to a bare repository start the pipeline",
        examples=(),
        is_own=True,
    ),
    "data received": Command(
        target="noria.faces.cli.git:received_command",
        summary="What the post-receive hook of git calls",
        examples=(),
        is_own=True,
    ),
    "data merge-driver": Command(
        target="noria.faces.cli.git:merge_driver_command",
        summary="What git calls for a pin that two branches changed",
        examples=(),
        is_own=True,
    ),
    "data before-push": Command(
        target="noria.faces.cli.git:before_push_command",
        summary="What the pre-push hook of git calls",
        examples=(),
        is_own=True,
    ),
    "data after-merge": Command(
        target="noria.faces.cli.git:after_merge_command",
        summary="What the post-merge hook of git calls",
        examples=(),
        is_own=True,
    ),
    "data import-dvc": Command(
        target="noria.data.import_dvc:import_dvc",
        summary="Take over a DVC repository into a project that is there",
        examples=("noria data import-dvc", "noria data import-dvc ../old --history"),
        positional=("path",),
        show="taken_over",
        fail_unless="ok",
        is_slow=True,
    ),
    "import dvc": Command(
        target="noria.faces.cli.takeover:import_dvc_command",
        summary="Take over a DVC repository in place, with its history",
        examples=(),
        is_own=True,
    ),
    "export files": Command(
        target="noria.data.export:export_files",
        summary="Write data sets as plain files, with sums that other tools check",
        examples=("noria export files backup", "noria export files backup customers --history"),
        positional=("refs",),
        is_slow=True,
    ),
    "export dvc": Command(
        target="noria.data.export:export_dvc",
        summary="Write data sets as a repository that DVC reads",
        examples=("noria export dvc ../as-dvc", "noria export dvc ../as-dvc customers@3"),
        positional=("refs",),
        is_slow=True,
    ),
    "run": Command(
        target="noria.loop.run:run",
        summary="Check the data, run the pipeline, judge the model, make a release",
        examples=("noria run", "noria run -p train.learning_rate=0.05 -p train.leaves=31"),
        positional=("pipeline",),
        show="run",
        fail_unless="ok",
        is_slow=True,
    ),
    "runs": Command(
        target="noria.tracking.run:list_runs",
        summary="Runs, newest first",
        examples=("noria runs", "noria runs --status failed --limit 5"),
        show="runs",
        next="noria why {run}",
    ),
    "why": Command(
        target="noria.project.why:why",
        summary="Why each step of a run ran, or did not",
        examples=("noria why", "noria why run_01k3"),
        positional=("run",),
        show="why",
        next="noria tracking log {run}",
    ),
    "test": Command(
        target="noria.project.test:run_tests",
        summary="Run the project's tests, data checks, and the pipeline on a sample",
        examples=("noria test", "noria test --sample 500 --junit test.xml"),
        show="tests",
        fail_unless="ok",
        is_slow=True,
        next="noria run",
    ),
    "diff": Command(
        target="noria.project.diff:diff",
        summary="What differs between two runs, data versions, models or releases",
        examples=("noria diff churn@r1 churn@r2", "noria diff customers@1 customers@2"),
        show="difference",
        is_slow=True,
    ),
    "approve": Command(
        target="noria.governance.approvals:approve",
        summary="Approve a release; its author never counts",
        examples=("noria approve churn:14 --role ml-lead", "noria approve churn:14 --comment 'slices reviewed'"),
        next="noria promote {about}",
    ),
    "deploy": Command(
        target="noria.serving.deployment:deploy",
        summary="Bring a validated release into traffic",
        examples=("noria deploy churn", "noria deploy churn:14 --dry-run"),
        show="shipped",
        is_slow=True,
    ),
    "promote": Command(
        target="noria.serving.deployment:promote",
        summary="Start a release's way to production: smoke test, shadow, canary, 100 %",
        examples=("noria promote churn:14", "noria promote churn --dry-run"),
        show="shipped",
        is_slow=True,
    ),
    "rollback": Command(
        target="noria.serving.deployment:rollback",
        summary="Go back to the release that was live before, at once",
        examples=("noria rollback churn", "noria rollback churn --to 3 --reason 'wrong threshold'"),
        positional=("model",),
        show="rolled_back",
    ),
    "watch": Command(
        target="noria.faces.cli.watch:watch_command",
        summary="The status, drawn again whenever something happens",
        examples=(),
        is_own=True,
    ),
    "explain": Command(
        target="noria.project.explain:explain",
        summary="Where a prediction, release, run or version comes from, down to the rows",
        examples=("noria explain pred_01k3…", "noria explain churn@r3 --json"),
        show="explain",
    ),
    "report": Command(
        target="noria.project.report:report",
        summary="Write report.html: quality by month, drift, decisions, releases",
        examples=("noria report", "noria report churn.html --model churn"),
        positional=("to",),
        show="report",
        is_slow=True,
    ),
    "audit verify": Command(
        target="noria.governance.audit:verify",
        summary="Recompute the ledger and compare it with signed checkpoints",
        examples=("noria audit verify", "noria audit verify --from kept/checkpoint.txt"),
        rename={"checkpoint": "from"},
        files=("checkpoint",),
        show="audit",
        fail_unless="ok",
        is_slow=True,
        next="noria audit export audit",
    ),
    "audit export": Command(
        target="noria.governance.audit:export",
        summary="Write the ledger as plain files, to verify without Noria",
        examples=("noria audit export audit", "noria audit export audit --json"),
        is_slow=True,
        next="noria audit verify --from {folder}/checkpoint.txt",
    ),
    "admin rebuild": Command(
        target="noria.faces.cli.admin:rebuild_command",
        summary="Drop the record tables and fold them again from the facts",
        examples=(),
        is_own=True,
    ),
    "admin errors": Command(
        target="noria.faces.cli.admin:errors_command",
        summary="What an error code means and what to do",
        examples=(),
        is_own=True,
    ),
    "checks history": Command(
        target="noria.checks.suite:history",
        summary="Every run of checks on a data set, newest first",
        examples=("noria checks history customers", "noria checks history customers --json"),
    ),
    "checks infer": Command(
        target="noria.checks.infer:infer",
        summary="Write checks/NAME.toml from a version; never changes an existing file",
        examples=("noria checks infer customers", "noria checks infer customers@1"),
        show="suite",
        next="noria checks run {dataset}",
    ),
    "checks latest": Command(
        target="noria.checks.suite:latest",
        summary="The last report on a version, without checking again",
        examples=("noria checks latest customers", "noria checks latest customers@2 --json"),
        show="checks",
        fail_unless="ok",
    ),
    "checks report": Command(
        target="noria.checks.report:report",
        summary="Write the last report on a version as one HTML page",
        examples=("noria checks report customers", "noria checks report customers@2 --to checks.html"),
    ),
    "checks run": Command(
        target="noria.checks.suite:run",
        summary="Check a version with its suite",
        examples=("noria checks run customers", "noria checks run customers@2 --json"),
        show="checks",
        fail_unless="ok",
        next="noria run",
    ),
    "governance ancestors": Command(
        target="noria.governance.lineage:ancestors",
        summary="Everything that a thing was made from, nearest first",
        examples=("noria governance ancestors release/churn/3", "noria governance ancestors model/churn:14 --depth 2"),
    ),
    "governance descendants": Command(
        target="noria.governance.lineage:descendants",
        summary="Everything that was made from a thing, nearest first",
        examples=("noria governance descendants dataset/customers@2", "noria governance descendants run/run_01k3"),
    ),
    "loop review": Command(
        target="noria.loop.react:review_now",
        summary="Ask for the review of a window now; the trainer does it",
        examples=("noria loop review churn", "noria loop review churn 2026-10"),
        positional=("window",),
    ),
    "monitoring alerts": Command(
        target="noria.monitoring.alerts:list_alerts",
        summary="Alerts that stand, newest first; --every: also those that are over",
        examples=("noria monitoring alerts", "noria monitoring alerts --model churn --every"),
    ),
    "monitoring drift": Command(
        target="noria.monitoring.report:drift",
        summary="Compare a window of requests with what the live release was trained on",
        examples=("noria monitoring drift churn", "noria monitoring drift churn 2026-10"),
        positional=("window",),
        is_slow=True,
    ),
    "monitoring quality": Command(
        target="noria.monitoring.performance:quality",
        summary="The labelled quality of a window, live against the first release",
        examples=("noria monitoring quality churn", "noria monitoring quality churn 2026-10"),
        positional=("window",),
        is_slow=True,
    ),
    "monitoring resolve": Command(
        target="noria.monitoring.alerts:acknowledge",
        summary="Say that an alert is over, and why",
        examples=(
            "noria monitoring resolve churn drift-2026-10 'a new price list'",
            "noria monitoring resolve churn data-3 'mended at its source'",
        ),
    ),
    "project months": Command(
        target="noria.project.months:months",
        summary="Every window of a model: quality, drift, decision and outcome",
        examples=("noria project months churn", "noria project months --json"),
        positional=("model",),
        show="months",
        next="noria report",
    ),
    "registry export": Command(
        target="noria.registry.export:export_release",
        summary="Write a release into a folder: model, signature, example, golden rows",
        examples=("noria registry export churn 3 churn-r3", "noria registry export churn 3 /tmp/churn --json"),
    ),
    "registry list": Command(
        target="noria.registry.versions:list_models",
        summary="Every model with its newest version, aliases and live release",
        examples=("noria registry list", "noria registry list --json"),
    ),
    "registry move-alias": Command(
        target="noria.registry.versions:move_alias",
        summary="Point an alias at a version of a model",
        examples=(
            "noria registry move-alias churn champion 14",
            "noria registry move-alias churn best 9 --reason audit",
        ),
    ),
    "registry reject": Command(
        target="noria.registry.release:reject",
        summary="Reject a release that is not live yet",
        examples=("noria registry reject churn 4 'leaks the label'", "noria registry reject churn 4 'too slow' --json"),
    ),
    "registry releases": Command(
        target="noria.registry.release:releases",
        summary="The releases of a model with their states, newest first",
        examples=("noria registry releases churn", "noria registry releases churn --limit 5"),
    ),
    "registry show": Command(
        target="noria.registry.versions:show",
        summary="Everything of one version of a model",
        examples=("noria registry show churn:14", "noria registry show churn@champion"),
    ),
    "registry versions": Command(
        target="noria.registry.versions:versions",
        summary="The versions of a model, newest first",
        examples=("noria registry versions churn", "noria registry versions churn --limit 5"),
    ),
    "serving rollout-replay": Command(
        target="noria.serving.advance:replay",
        summary="Compute a rollout's evidence again from the prediction log alone",
        examples=("noria serving rollout-replay rollout_01k3", "noria serving rollout-replay rollout_01k3 --json"),
        is_slow=True,
    ),
    "serving status": Command(
        target="noria.serving.deployment:status",
        summary="What answers now, by model: arms, shares, shadow",
        examples=("noria serving status", "noria serving status --model churn"),
    ),
    "tracking log": Command(
        target="noria.tracking.run:log_text",
        summary="What the steps of a run printed",
        examples=("noria tracking log", "noria tracking log run_01k3 --step train"),
        positional=("run",),
    ),
    "tracking show": Command(
        target="noria.tracking.run:show",
        summary="One run; the newest without an id",
        examples=("noria tracking show", "noria tracking show run_01k3 --json"),
        positional=("run",),
    ),
}
