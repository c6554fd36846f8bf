"""What people decide: consent, and who may come in."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = [
    "FACTS",
    "AccessRefused",
    "ApprovalGiven",
    "ApprovalRefused",
    "IdentityBound",
    "LoginRefused",
    "PolicyProtected",
    "TokenCreated",
    "TokenRevoked",
]


@fact("approval.given", subject="{about}")
class ApprovalGiven:
    """A person approved a thing by its digest, with a comment. The author of the thing never counts.

    `expires` is a moment after which it does not count, or empty.
    """

    about: str
    digest: str
    role: str
    comment: str = ""
    expires: str = ""


@fact("approval.refused", subject="{about}")
class ApprovalRefused:
    """A person rejected a thing by its digest; what they approved of that content is taken back."""

    about: str
    digest: str
    comment: str


@fact("policy.protected", subject="policy")
class PolicyProtected:
    """Where the rules of models are read from: a git ref, the content of an object, or, with neither, the project."""

    ref: str
    content: str


@fact("token.created", subject="token/{token}")
class TokenCreated:
    """Somebody was given a token. `verifier` is the SHA-256 (hex) of a random secret that is kept nowhere.

    `holder` is the actor of all that is done with it. `expires` is a moment, or empty for never. `approves` are
    the named roles that the holder may approve in. A token that a provider of identities brought about has its
    `origin` ("login/corp", "workload/github"), the `way` that it came ("browser", "command line", "exchange"),
    and what it rests on: the `issuer`, and claims as "name=value" in `because`. `once` is the SHA-256 (hex) of what
    it was given for, which is good for one token only.
    """

    token: str
    holder: str
    role: str
    project: str
    scopes: tuple[str, ...]
    approves: tuple[str, ...]
    verifier: str
    expires: str
    origin: str = ""
    way: str = ""
    issuer: str = ""
    because: tuple[str, ...] = ()
    once: str = ""


@fact("token.revoked", subject="token/{token}")
class TokenRevoked:
    """A token opens nothing any more."""

    token: str
    reason: str = ""


@fact("access.refused", subject="access/{permission}")
class AccessRefused:
    """Somebody who is known asked for what they may not do; told at most once an hour for each of both."""

    permission: str
    token: str
    reason: str


@fact("identity.bound", subject="identity/{identity}")
class IdentityBound:
    """A subject of an issuer came for the first time, and has this name from now on; nobody else ever has it.

    `identity` is the SHA-256 (hex) of the issuer and the subject. What a machine's subject says is kept too; a
    person's is not.
    """

    identity: str
    holder: str
    issuer: str
    subject: str = ""


@fact("login.refused", subject="access/{origin}")
class LoginRefused:
    """Somebody whom a provider speaks for, or pretends to, was not let in; told at most once an hour for the same.

    `identity` is empty where no signature says who it was. `reason` is one word, `told` the sentence that was said.
    """

    origin: str
    way: str
    reason: str
    told: str
    identity: str = ""


FACTS = (
    ApprovalGiven,
    ApprovalRefused,
    PolicyProtected,
    TokenCreated,
    TokenRevoked,
    AccessRefused,
    IdentityBound,
    LoginRefused,
)
