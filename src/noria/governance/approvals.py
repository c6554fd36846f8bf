"""Consent: a person approves a thing by its digest. The thing's authors and services never count.

A policy asks for named roles, and for how many people in each. An approval is of exactly one content, says why,
ends, and may be taken back by rejecting; while somebody's rejection stands nothing goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.clock import duration, instant, utc_text
from noria.core.consent import need
from noria.core.errors import Conflict, Denied, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import is_digest, short
from noria.core.verb import verb
from noria.governance import policy, records
from noria.governance.access import ROLES
from noria.governance.facts import ApprovalGiven, ApprovalRefused
from noria.governance.lineage import ancestors_within
from noria.governance.records import ApprovalRecord, EdgeRecord, RejectionRecord
from noria.store.fold import Reader
from noria.store.workspace import Workspace

__all__ = ["Reviews", "Waiting", "approve", "authors", "missing", "reject", "reviews", "waiting"]

COMMENT_LIMIT = 2000
DIGITS_MIN = 12
"""Of a digest that is named by its first digits."""
GENERAL = "approver"
"""The named role that everybody has who may approve at all."""
WHATEVER = "*"
"""Said in place of a digest: what is there, whichever it is. An empty digest is a variable that was not set."""


@frozen
class Waiting:
    """What a policy still asks for: the roles, and what to say of the release: "waits for approval as …"."""

    roles: tuple[str, ...]
    text: str


@frozen
class Reviews:
    """What people said of a thing as it is now, who made it, and what its policy still waits for."""

    about: str
    digest: str
    authors: tuple[str, ...]
    approvals: tuple[ApprovalRecord, ...]
    rejections: tuple[RejectionRecord, ...]
    waiting: str


@verb(permission="governance.approve")
def approve(
    ws: Workspace, about: str, role: str = GENERAL, comment: str = "", digest: str = WHATEVER, expires: str = ""
) -> ApprovalRecord:
    """Approve the newest release of a version (`flights:3`), a release (`flights@r2`) or anything that a fact made.

    Idempotent for a person and role while it counts. The approval is of the content's digest: changed content
    needs a new one. It takes the same person's rejection of this content back, also an author's own, whose
    approval counts for nothing else.

    Args:
        role: the named role of the policy that it is given in.
        comment: why; it is on record with the approval.
        digest: what was reviewed, whole or its first 12 digits; refused if the content is another.
        expires: how long it counts, such as 7d; the policy's own limit holds all the same.
    Raises: NotFound; Conflict for another digest; UsageError for a role that the policy does not ask for; Denied
        for a service, an author of the thing, or where tokens are in use a person whom no token lets approve in
        this role.

    Example: noria approve churn:14 --role ml-lead --comment "slices reviewed" --digest 3f9a01c2d4e5
    """
    require_comment(comment)
    until = _until(ws, expires)
    with ws.ledger.transaction() as tx:
        ref, content = _resolve(tx, about)
        _require_content(about, content, digest)
        _require_reviewer(ws, tx, role)
        takes_back = _is_rejected_by(tx, ref, content, ws.actor)
        if not takes_back:
            _require_weight(ws, tx, ref, about, role)
        before = _given(tx, ref, content, ws.actor, role)
        counts = bool(before) and not until and _counts(before[0], utc_text(ws.clock.now()), _limit(ws, ref))
        if not counts or takes_back:
            tx.append(
                ApprovalGiven(about=ref, digest=content, role=role, comment=comment, expires=until),
                inputs=[("thing", ref), ("content", content)],
            )
        return _given(tx, ref, content, ws.actor, role)[0]


@verb(permission="governance.approve")
def reject(ws: Workspace, about: str, comment: str = "", digest: str = WHATEVER) -> RejectionRecord:
    """Reject a thing as it is now: it waits until the same person approves it, or its content is another.

    Takes back what the same person approved of this content. `noria registry reject` ends a release for good.

    Args:
        comment: why; it is told to whoever promotes.
        digest: what was reviewed, whole or its first 12 digits; refused if the content is another.
    Raises: NotFound; Conflict for another digest; Denied for a service or who may not approve.

    Example: noria reject churn:14 --comment "slice PT is worse by 0.03"
    """
    require_comment(comment)
    with ws.ledger.transaction() as tx:
        ref, content = _resolve(tx, about)
        _require_content(about, content, digest)
        _require_reviewer(ws, tx, "")
        if not _is_rejected_by(tx, ref, content, ws.actor):
            tx.append(
                ApprovalRefused(about=ref, digest=content, comment=comment),
                inputs=[("thing", ref), ("content", content)],
            )
        return next(each for each in records.rejections(tx, ref, content) if each.actor == ws.actor)


@verb(permission="governance.read", changes=False)
def reviews(ws: Workspace, about: str) -> Reviews:
    """What people said of a thing as it is now, and what its policy still waits for.

    Raises: NotFound.

    Example: noria governance reviews churn:14
    """
    with ws.ledger.read() as tx:
        ref, content = _resolve(tx, about)
        lacks = waiting(ws, tx, ref, content) if ref.startswith("release/") else None
        return Reviews(
            about=ref,
            digest=content,
            authors=tuple(sorted(authors(tx, ref))),
            approvals=tuple(records.approvals(tx, ref, content)),
            rejections=tuple(records.rejections(tx, ref, content)),
            waiting=lacks.text if lacks else "",
        )


def require_comment(comment: str) -> str:
    """What somebody says of their decision. Raises: UsageError if it is nothing, or too much."""
    if not comment.strip():
        raise UsageError("a decision needs a comment: why?", hint='--comment "slices reviewed, calibration fine"')
    if len(comment) > COMMENT_LIMIT:
        raise UsageError(f"a comment of {len(comment)} characters is over the limit of {COMMENT_LIMIT}")
    return comment


def authors(tx: Reader, ref: str) -> set[str]:
    """Who made a thing: the actors of the facts that gave it, and of the runs and versions behind it."""
    makers = {edge.actor for edge in records.producers(tx, [ref])}
    links = ancestors_within(tx, [ref])
    above = [link.ref for link in links if link.ref.startswith(("run/", "model/"))]
    makers |= {edge.actor for edge in records.producers(tx, above)}
    return makers | {edge.actor for edge in records.subjects(tx, [r for r in above if r.startswith("run/")])}


def waiting(ws: Workspace, tx: Reader, about: str, digest: str) -> Waiting | None:
    """What the policy of a release's model still asks of people; None when all is given.

    Args:
        about: the release as `release/MODEL/NUMBER`.
    """
    rules = policy.of(ws, about.split("/")[1]).config.deploy
    if not rules.approve:
        return None
    now = utc_text(ws.clock.now())
    against = records.rejections(tx, about, digest)
    if against:
        return Waiting((), f"was rejected by {against[0].actor}: {against[0].comment[:200]}")
    lacking = missing(tx, about, digest, rules.approve, now=now, within=rules.approve_within)
    if not lacking:
        return None
    given = sorted({f"{each.actor} as {each.role}" for each in records.approvals(tx, about, digest)})
    roles = tuple(need(each).role for each in lacking)
    told = f"waits for approval as {', '.join(lacking)}"
    return Waiting(roles, told + (f" (said yes, though not all may count: {', '.join(given)})" if given else ""))


def missing(
    tx: Reader, about: str, digest: str, required: Sequence[str], *, now: str = "", within: str = ""
) -> list[str]:
    """Which of the required roles too few have approved this content in, as `ROLE` or `ROLE 2`: so many are lacking.

    An author's approval never counts, nor one that is over. A person counts once in each role.

    Args:
        required: roles as a policy writes them, "ml-lead" or "ml-lead 2".
        now: the moment, as `utc_text` writes it; empty: no approval is over.
        within: how long an approval counts, such as 30d; empty: for ever.
    """
    excluded = authors(tx, about)
    given = [each for each in records.approvals(tx, about, digest) if each.actor not in excluded]
    counted = [each for each in given if not now or _counts(each, now, within)]
    lacking = []
    for asked in map(need, required):
        people = {each.actor for each in counted if each.role == asked.role and each.actor.startswith("user:")}
        short_of = asked.people - len(people)
        if short_of > 0:
            lacking.append(asked.role if short_of == 1 else f"{asked.role} {short_of}")
    return lacking


def _counts(given: ApprovalRecord, now: str, within: str) -> bool:
    """Whether an approval is not over: by its own end, or by the policy's limit."""
    if given.expires and given.expires <= now:
        return False
    return not within or utc_text(instant(given.at) + duration(within)) > now


def _limit(ws: Workspace, ref: str) -> str:
    """How long the policy of a release's model lets an approval count; empty for what has no policy."""
    return policy.of(ws, ref.split("/")[1]).config.deploy.approve_within if ref.startswith("release/") else ""


def _until(ws: Workspace, expires: str) -> str:
    if not expires:
        return ""
    try:
        length = duration(expires)
    except ValueError as error:
        raise UsageError(f"expires: {error}") from error
    if not length:
        raise UsageError("expires: an approval that counts for no time says nothing")
    return utc_text(ws.clock.now() + length)


def _require_reviewer(ws: Workspace, tx: Reader, role: str) -> None:
    """Let a person decide, in a role that is theirs. Raises: Denied.

    Where a project has tokens, they say who may; without any, whoever is at the keyboard is believed.
    """
    if not ws.actor.startswith("user:"):
        raise Denied(f"{ws.actor} may not approve: only people do", hint="set NORIA_ACTOR=user:NAME")
    if not records.tokens_seq(tx):
        return
    now = utc_text(ws.clock.now())
    mine = [
        each
        for each in records.tokens(tx, live_at=now, holder=ws.actor)
        if each.project == ws.project.name and ROLES.index(each.role) >= ROLES.index("approver")
    ]
    if not mine:
        hint = "an admin makes one: noria token create --name NAME --role approver"
        raise Denied(f"{ws.actor} may not approve: no token of theirs has the role approver", hint=hint)
    if role not in ("", GENERAL) and not any(role in each.approves for each in mine):
        hint = f"an admin says so: noria token create --name NAME --role approver --approves {role}"
        raise Denied(f"{ws.actor} may not approve as {role}: no token of theirs says so", hint=hint)


def _require_weight(ws: Workspace, tx: Reader, ref: str, about: str, role: str) -> None:
    """Nobody believes that they approved when what they say could never count. Raises: Denied; UsageError."""
    if ws.actor in authors(tx, ref):
        raise Denied(
            f"{ws.actor} may not approve {ref}: the author of a thing never counts",
            hint="ask somebody else to run: noria approve " + about,
        )
    asked = policy.of(ws, ref.split("/")[1]).config.deploy.approve if ref.startswith("release/") else ()
    roles = [need(each).role for each in asked]
    if roles and role not in roles:
        raise UsageError(
            f"{ref.split('/')[1]} asks for approval as {', '.join(asked)}, not as {role or 'nobody'}",
            hint=f"--role {roles[0]}",
        )


def _require_content(about: str, content: str, digest: str) -> None:
    """What was reviewed is what is there. Raises: Conflict; UsageError."""
    if digest == WHATEVER:
        return
    wanted = digest.removeprefix("sha256:")
    if len(wanted) < DIGITS_MIN:
        raise UsageError(f"{digest!r} is too short for a digest", hint=f"give {DIGITS_MIN} digits of it at least")
    if not content.removeprefix("sha256:").startswith(wanted.lower()):
        raise Conflict(
            f"{about} is {short(content)} now, not the {wanted[:DIGITS_MIN]} that was reviewed",
            hint="review what is there, then approve that",
        )


def _is_rejected_by(tx: Reader, ref: str, digest: str, actor: str) -> bool:
    return any(each.actor == actor for each in records.rejections(tx, ref, digest))


def _given(tx: Reader, ref: str, digest: str, actor: str, role: str) -> list[ApprovalRecord]:
    return [a for a in records.approvals(tx, ref, digest) if (a.actor, a.role) == (actor, role)]


def _resolve(tx: Reader, about: str) -> tuple[str, str]:
    """The ref and the digest of what is meant. `NAME:2` is version 2, as everywhere, by its newest release."""
    model, at, number = about.rpartition("@r")
    ref = f"release/{model}/{number}" if at and number.isdecimal() else about
    made = records.producers(tx, [ref])
    if not made and (version := records.producers(tx, [f"model/{about}"])):
        ref = _release_of(tx, version[-1].ref)
        made = records.producers(tx, [ref])
    if not made:
        hint = "name a version such as MODEL:2, or a release such as MODEL@r1; noria registry releases MODEL has both"
        raise NotFound(f"no fact made {about[:100]!r}", hint=hint)
    return ref, _digest(tx, ref, made[-1])


def _release_of(tx: Reader, version: str) -> str:
    """The newest release that was made of a version (`model/NAME:2`). Raises: NotFound."""
    made = [each.seq for each in records.users(tx, [version]) if each.role == "version"]
    found = [each.ref for each in records.outputs_of(tx, made) if each.ref.startswith("release/")]
    if not found:
        shown = version.removeprefix("model/")
        hint = f"noria registry releases {shown.rpartition(':')[0]}"
        raise NotFound(f"{shown} has no release that could be approved", hint=hint)
    return found[-1]


def _digest(tx: Reader, ref: str, made: EdgeRecord) -> str:
    if is_digest(ref):
        return ref
    for edge in records.outputs_of(tx, [made.seq]):
        if is_digest(edge.ref):
            return edge.ref
    raise NotFound(f"the fact {made.seq} that made {short(ref)} names no content that could be approved")
