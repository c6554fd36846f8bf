"""What people decide."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = ["FACTS", "ApprovalGiven"]


@fact("approval.given", subject="{about}")
class ApprovalGiven:
    """A person approved a thing by its digest, with a comment. The author of the thing never counts."""

    about: str
    digest: str
    role: str
    comment: str = ""


FACTS = (ApprovalGiven,)
