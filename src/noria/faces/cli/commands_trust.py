"""Commands of what ran where and whether it can be had again, and of people: rows of the table in `commands.py`."""

from __future__ import annotations

from collections.abc import Mapping

from noria.faces.cli.command import Command

__all__ = ["TRUST"]

TRUST: Mapping[str, Command] = {
    "reproduce": Command(
        target="noria.project.reproduce:reproduce",
        summary="Do a run again from its pins, compare every output, sign the verdict",
        examples=(
            "noria reproduce",
            "noria reproduce churn:14",
            "noria reproduce last",
            "noria reproduce run_01k3 --environment here --json",
        ),
        positional=("ref",),
        show="reproduction",
        fail_unless="ok",
        is_slow=True,
    ),
    "env show": Command(
        target="noria.project.environments:show_environment",
        summary="What a run ran in: Python, every distribution, the machine",
        examples=("noria env show", "noria env show churn:14 --json"),
        positional=("ref",),
        show="environment",
    ),
    "env diff": Command(
        target="noria.project.environments:diff_environments",
        summary="How the environment of a run differs from another's, or from here",
        examples=("noria env diff last", "noria env diff churn:14", "noria env diff churn:13 churn:14"),
        positional=("b",),
        show="environment_diff",
    ),
    "env rebuild": Command(
        target="noria.project.environments:rebuild_environment",
        summary="Make the environment of a run anew, and compare every file",
        examples=("noria env rebuild last rebuilt", "noria env rebuild churn:14 /tmp/churn-14 --json"),
        show="environment_rebuilt",
        fail_unless="ok",
        is_slow=True,
    ),
    "approve": Command(
        target="noria.governance.approvals:approve",
        summary="Approve a release; its author never counts",
        examples=(
            "noria approve churn:14 --role ml-lead --comment 'slices reviewed'",
            "noria approve churn:14 --comment fine --digest 3f9a01c2d4e5 --expires 7d",
        ),
        next="noria governance reviews {about}",
    ),
    "reject": Command(
        target="noria.governance.approvals:reject",
        summary="Reject a release as it is; it waits until you approve it",
        examples=(
            "noria reject churn:14 --comment 'slice PT is worse by 0.03'",
            "noria reject churn@r14 --comment 'leaks the label' --json",
        ),
        next="noria governance reviews {about}",
    ),
    "governance reviews": Command(
        target="noria.governance.approvals:reviews",
        summary="Who approved or rejected a release, and what it waits for",
        examples=("noria governance reviews churn:14", "noria governance reviews churn@r3 --json"),
    ),
    "registry report": Command(
        target="noria.registry.export:export_report",
        summary="Write the evaluation report that a version's gates left: one HTML file, or JSON",
        examples=("noria registry report churn:14", "noria registry report churn@champion champion.json"),
        positional=("ref", "to"),
        show="report_file",
    ),
    "registry card": Command(
        target="noria.registry.card:card",
        summary="Print or write the card of a version: use, owners, data, metrics, limits",
        examples=("noria registry card churn:14", "noria registry card churn@champion docs/churn.md"),
        positional=("ref", "to"),
        show="card",
    ),
    "policy show": Command(
        target="noria.governance.policy:show",
        summary="Where the rules of models are read from",
        examples=("noria policy show", "noria policy show --json"),
    ),
    "policy protect": Command(
        target="noria.governance.policy:protect",
        summary="Read the rules of models from a protected branch, or keep those of now",
        examples=("noria policy protect --ref origin/main", "noria policy protect"),
        next="noria policy show",
    ),
    "policy unprotect": Command(
        target="noria.governance.policy:unprotect",
        summary="Read the rules of models from the working tree again",
        examples=("noria policy unprotect", "noria policy unprotect --json"),
    ),
    "login": Command(
        target="noria.faces.cli.login:login_command",
        summary="Log in to a server through your provider, or as a job of CI",
        examples=(),
        is_own=True,
    ),
    "logout": Command(
        target="noria.faces.cli.login:logout_command",
        summary="End a login, here and at the server",
        examples=(),
        is_own=True,
    ),
    "token create": Command(
        target="noria.governance.tokens:create",
        summary="Make a token for a person or a machine; it is shown this once",
        examples=(
            "noria token create --name ann --role admin",
            "noria token create --name ci --role editor --expires 30d --service",
            "noria token create --name shop --scopes serving.predict --service --json",
        ),
        options=("name",),
        show="token",
        next="noria token list",
    ),
    "token list": Command(
        target="noria.governance.tokens:tokens",
        summary="The tokens that open something, and when each was last used",
        examples=("noria token list", "noria token list --every --json"),
        show="tokens",
        empty="there is no token; a server on this machine asks for none until there is one",
    ),
    "token revoke": Command(
        target="noria.governance.tokens:revoke",
        summary="Take a token back; servers refuse it within a second",
        examples=("noria token revoke 3f9a01c2d4e5", "noria token revoke 3f9a01c2d4e5 --reason 'laptop lost'"),
        next="noria token list",
    ),
}
