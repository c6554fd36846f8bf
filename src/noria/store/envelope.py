"""A signed document: an envelope of DSSE around a payload, with the key that signs the ledger's checkpoints.

Whoever has the envelope and the public key can check it without Noria. The text that is signed begins
with `DSSEv1`, so that no signature of a checkpoint can be taken for one of a document, or the reverse.

Source: DSSE (secure-systems-lab/dsse, protocol.md), PAE and envelope; RFC 8032 (Ed25519).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from noria.core.errors import Tampered
from noria.core.identity import JSON, canonical
from noria.store.checkpoint import Signer, Verifier

__all__ = ["opened", "seal"]


def seal(signer: Signer, kind: str, payload: JSON) -> dict[str, JSON]:
    """The envelope of a JSON value; `kind` is its media type. Equal payloads give equal envelopes."""
    body = canonical(payload)
    return {
        "payloadType": kind,
        "payload": base64.b64encode(body).decode(),
        "signatures": [
            {"keyid": str(signer.verifier), "sig": base64.b64encode(signer.sign_text(_encoding(kind, body))).decode()}
        ],
    }


def opened(envelope: Any, verifier: Verifier, kind: str) -> Any:
    """The payload of an envelope that a key signed. Raises: Tampered if it is altered, or by another key."""
    try:
        body = base64.b64decode(envelope["payload"], validate=True)
        found, signatures = str(envelope["payloadType"]), [dict(each) for each in envelope["signatures"]]
        raw = [base64.b64decode(each["sig"], validate=True) for each in signatures]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Tampered(f"this is no signed document: {error}") from error
    if found != kind:
        raise Tampered(f"this is a {found[:80]}, not a {kind}")
    if not any(verifier.has_signed(each, _encoding(kind, body)) for each in raw):
        raise Tampered("the document is not signed by this key", hint="it was altered, or is of another project")
    return json.loads(body)


def _encoding(kind: str, body: bytes) -> bytes:
    """The bytes that are signed: type and body with their lengths (DSSE's pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(body), body)
