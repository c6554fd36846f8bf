"""Who may do what: roles, permissions, and the one question that every face asks.

A role holds all that the roles below it hold. Each permission names the least role that has it; what is
not in the table nobody has, so a verb that is new is refused until somebody decides. Nothing here knows
of tokens, headers or sessions: those say *who* asks, and this says what they may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from noria.core.errors import Denied, UsageError
from noria.core.frozen import frozen

__all__ = ["LEAST", "ROLES", "Actor", "authorize", "is_allowed", "require_role", "require_scopes"]

ROLES = ("viewer", "editor", "approver", "admin")
"""From the least to the most."""

_VIEWER = (
    "checks.read",
    "data.read",
    "experiments.read",
    "governance.audit",
    "governance.read",
    "monitoring.read",
    "pipeline.read",
    "project.read",
    "registry.read",
    "schedule.read",
    "search.read",
    "serving.predict",
    "serving.read",
    "tracking.read",
)
_EDITOR = (
    "checks.export",
    "checks.infer",
    "checks.quarantine",
    "checks.run",
    "data.add",
    "data.checkout",
    "data.export",
    "data.push",
    "data.verify",
    "experiments.write",
    "governance.export",
    "loop.promote",
    "loop.review",
    "loop.run",
    "monitoring.acknowledge",
    "monitoring.collect",
    "monitoring.feedback",
    "monitoring.measure",
    "pipeline.cancel",
    "project.rebuild",
    "project.report",
    "project.reproduce",
    "project.test",
    "registry.export",
    "registry.promote",
    "registry.write",
    "schedule.change",
    "schedule.trigger",
    "scripts.export",
    "serving.deploy",
    "serving.promote",
    "serving.rollback",
)
_APPROVER = ("governance.approve",)
_ADMIN = ("data.collect", "governance.admin", "registry.webhooks")

LEAST: Mapping[str, str] = {
    permission: role
    for role, permissions in zip(ROLES, (_VIEWER, _EDITOR, _APPROVER, _ADMIN), strict=True)
    for permission in permissions
}
"""Permission -> the least role that has it. What only reads is a viewer's, and writes no file either."""

PEOPLE_ONLY = frozenset({"governance.approve"})
"""What a machine's account may not do, whatever its role: consent is a person's."""


@frozen(kw_only=True)
class Actor:
    """Who asks: a name for the facts, and what they hold.

    `name` is "user:NAME" or "service:NAME". `role` is empty for whoever holds nothing. `project` is the only
    project that they are known in. `scopes` narrows the role to these permissions ("data.read", "data.*");
    empty narrows nothing. `token` is the id of the token that proved it, never the secret; `is_session` says that
    it came by a login in a browser.
    """

    name: str
    role: str = ""
    project: str = ""
    scopes: tuple[str, ...] = ()
    token: str = ""
    is_session: bool = False

    @property
    def is_person(self) -> bool:
        """Whether it is somebody, not something."""
        return self.name.startswith("user:")


def authorize(actor: Actor, permission: str, resource: str) -> None:
    """Let an actor do something to a project, or say why not. The one place where this is decided.

    Args:
        permission: as a verb declares it, such as "registry.promote".
        resource: the name of the project that it is done in.
    Raises: Denied. Also for a permission that no role has: the default is no.
    """
    reason = _why_not(actor, permission, resource)
    if reason:
        raise Denied(f"{actor.name} may not do this: {reason}", hint="an admin gives more: noria token create")


def is_allowed(actor: Actor, permission: str, resource: str) -> bool:
    """Whether `authorize` lets it pass."""
    return not _why_not(actor, permission, resource)


def _why_not(actor: Actor, permission: str, resource: str) -> str:
    least = LEAST.get(permission)
    if least is None:
        return f"nobody has the permission {permission[:80]!r}"
    if actor.role not in ROLES:
        return f"{permission} takes the role {least}, and it has none"
    if actor.project != resource:
        return f"it is known in {actor.project!r}, not in {resource!r}"
    if ROLES.index(actor.role) < ROLES.index(least):
        return f"{permission} takes the role {least}, and it is {actor.role}"
    if actor.scopes and not _in_scope(permission, actor.scopes):
        return f"{permission} is outside of what its token is for ({', '.join(actor.scopes)})"
    if permission in PEOPLE_ONLY and not actor.is_person:
        return f"{permission} is for people only"
    return ""


def _in_scope(permission: str, scopes: Iterable[str]) -> bool:
    capability = permission.partition(".")[0]
    return any(scope in (permission, f"{capability}.*") for scope in scopes)


def require_role(role: str) -> str:
    """The role, if it is one. Raises: UsageError."""
    if role not in ROLES:
        raise UsageError(f"there is no role {role[:40]!r}", hint=f"one of: {', '.join(ROLES)}")
    return role


def require_scopes(scopes: Iterable[str], role: str) -> tuple[str, ...]:
    """Scopes that mean something to a role, sorted. Raises: UsageError."""
    found = tuple(sorted(set(scopes)))
    held = {name for name, least in LEAST.items() if ROLES.index(least) <= ROLES.index(role)}
    for scope in found:
        if not any(_in_scope(permission, (scope,)) for permission in held):
            raise UsageError(
                f"the scope {scope[:60]!r} holds nothing that the role {role} may do",
                hint="a permission such as data.read, or a capability such as data.*; GET /api/v1 lists them",
            )
    return found
