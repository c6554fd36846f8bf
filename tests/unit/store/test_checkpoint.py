from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from noria.core.errors import StoreUnavailable, Tampered
from noria.store.checkpoint import (
    Checkpoint,
    Signer,
    _make_key,
    is_signed_by,
    open_signer,
    parse_checkpoint,
    parse_verifier,
)

# The example of the Go implementation (golang.org/x/mod/sumdb/note): an independent signer.
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ROOT = bytes(range(32))


@pytest.fixture
def signer() -> Signer:
    return Signer("noria/test/0badcafe", b"\x07" * 32)


def test_a_note_signed_by_another_implementation_is_accepted() -> None:
    """The note is no checkpoint, so its parts are taken by hand; the signature is what is tested."""
    verifier = parse_verifier(GO_VERIFIER)
    body, _, tail = GO_NOTE.partition("\n\n")
    material = base64.b64decode(tail.split(" ")[2])
    assert str(verifier) == GO_VERIFIER
    assert material[:4] == verifier.key_id
    parsed = Checkpoint("x", 0, ROOT, (body + "\n").encode(), {("PeterNeumann", material[:4]): material[4:]})
    assert verifier.is_signed(parsed)
    changed = Checkpoint("x", 0, ROOT, body.replace("is", "was").encode(), parsed.signatures)
    assert not verifier.is_signed(changed)


def test_a_checkpoint_is_read_back_and_its_signature_holds(signer: Signer) -> None:
    note = signer.sign(7, ROOT)
    found = parse_checkpoint(note)
    assert (found.origin, found.size, found.root) == ("noria/test/0badcafe", 7, ROOT)
    assert signer.verifier.is_signed(found)
    assert parse_verifier(str(signer.verifier)).is_signed(found)
    assert signer.sign(7, ROOT) == note
    assert note.splitlines()[:3] == ["noria/test/0badcafe", "7", base64.b64encode(ROOT).decode()]


def test_any_flipped_bit_breaks_the_note(signer: Signer) -> None:
    """Also those that base64 leaves over, and ends of lines that Python takes for one."""
    note = signer.sign(1234, ROOT).encode()
    for position in range(len(note)):
        for bit in range(8):
            changed = bytearray(note)
            changed[position] ^= 1 << bit
            try:
                found = parse_checkpoint(changed.decode(errors="replace"))
            except Tampered:
                continue
            assert not is_signed_by(found, [signer.verifier]), f"bit {bit} of byte {position} may be changed"


def test_a_note_without_its_last_end_of_line_is_refused(signer: Signer) -> None:
    with pytest.raises(Tampered, match="the last line has no end"):
        parse_checkpoint(signer.sign(1234, ROOT).removesuffix("\n"))


def test_another_key_of_the_same_name_is_not_accepted(signer: Signer) -> None:
    other = Signer(signer.origin, b"\x08" * 32)
    assert not is_signed_by(parse_checkpoint(other.sign(7, ROOT)), [signer.verifier])
    assert is_signed_by(parse_checkpoint(other.sign(7, ROOT)), [signer.verifier, other.verifier])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n\n",
        "\udcb0\n1\n" + "A" * 43 + "=\n\n— a AAAAAAAA\n",
        "a\nx\nAAAA\n\n— a AAAAAAAA\n",
        "a\n01\n" + "A" * 43 + "=\n\n— a AAAAAAAA\n",
        "a\n1\nAAAA\n\n— a AAAAAAAA\n",
        "a\n1\n" + "A" * 43 + "=\n\n",
        "a\n1\n" + "A" * 43 + "=\n\n- a AAAAAAAA\n",
        "a\n1\n" + "A" * 43 + "=\n\n— a AA\n",
        "a\n1\n" + "A" * 43 + "=\n\n— a !!!!\n",
        "a\n١\n" + "A" * 43 + "=\n\n— a AAAAAAAA\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Tampered, match="not a signed checkpoint"):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+!!",
        "name+00000000+AAAA",
        GO_VERIFIER.replace("c74f20a3", "c74f20a4"),
        "a b" + GO_VERIFIER,
    ],
)
def test_what_is_not_a_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(Tampered):
        parse_verifier(text)


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    made = open_signer(path, "o")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_signer(path, "o").sign(1, ROOT) == made.sign(1, ROOT)
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    open_signer(path, "o")
    path.chmod(0o644)
    with pytest.raises(StoreUnavailable, match="others may read"):
        open_signer(path, "o")


@pytest.mark.parametrize("content", [b"", b"not a key", b"AAAA", b"\xff\xfe"])
def test_a_damaged_key_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StoreUnavailable, match="does not hold a signing key"):
        open_signer(path, "o")


def test_of_two_processes_that_make_the_key_at_once_both_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    _make_key(path)
    first = path.read_bytes()
    _make_key(path)
    assert path.read_bytes() == first
