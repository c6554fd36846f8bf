"""DVC's files as text: what is tracked, by which md5, and what cannot be taken over."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Corrupt, NotFound, UsageError
from noria.data.takeover.dvc import Layouts, md5_of, outputs_of, remotes_of, root_of, tracking_files
from noria.data.takeover.import_dvc import _names

MD5 = "0" * 31 + "1"


def test_a_dvc_file_and_a_lock_name_their_outputs() -> None:
    (one,) = outputs_of(f"outs:\n- md5: {MD5}\n  size: 7\n  hash: md5\n  path: a b.csv\n", "data/a b.csv.dvc")
    assert (one.path, one.md5, one.size_bytes, one.is_legacy, one.is_folder) == ("data/a b.csv", MD5, 7, False, False)
    (old,) = outputs_of(f"wdir: ..\nouts:\n- md5: {MD5}.dir\n  path: images\n", "data/x/images.dvc")
    assert (old.path, old.is_legacy, old.is_folder) == ("data/images", True, True)
    lock = f"schema: '2.0'\nstages:\n  make:\n    outs:\n    - path: out.txt\n      md5: {MD5}\n      hash: md5\n"
    assert [each.path for each in outputs_of(lock, "sub/dvc.lock")] == ["sub/out.txt"]
    assert outputs_of(f"make:\n  outs:\n  - path: o\n    md5: {MD5}\n", "dvc.lock")[0].path == "o"
    assert outputs_of("", "dvc.lock") == []


def test_paths_of_a_lock_count_from_where_its_stages_work() -> None:
    def lock(*names: str) -> str:
        stages = "".join(f"  {name}:\n    outs:\n    - path: o\n      md5: {MD5}\n" for name in names)
        return f"schema: '2.0'\nstages:\n{stages}"

    pipeline = """
stages:
  plain: {wdir: ../work}
  none: {cmd: x}
  each: {foreach: [en, pt], do: {wdir: "texts/${item}"}}
  keyed: {foreach: {en: {n: 1}}, do: {wdir: "texts/${key}"}}
  many: {matrix: {a: [1, 2]}, wdir: models}
  told: {foreach: "${langs}", do: {wdir: "texts/${item}"}}
"""
    names = ("plain", "none", "each@en", "keyed@en", "many@1", "gone", "told@en")
    found = outputs_of(lock(*names), "sub/dvc.lock", pipeline)
    wanted = ["work/o", "sub/o", "sub/texts/en/o", "sub/texts/en/o", "sub/models/o", "sub/o"]
    assert [each.path for each in found[:-1]] == wanted
    assert [each.skipped for each in found[:-1]] == [""] * len(wanted)
    assert "a folder that a template names (texts/${item})" in found[-1].skipped


def test_an_md5_of_digits_stays_the_text_that_it_is() -> None:
    digits = "12345678901234567890123456789012"
    assert outputs_of(f"outs:\n- md5: {digits}\n  path: on\n", "on.dvc")[0].md5 == digits
    assert outputs_of(f"outs:\n- md5: {digits[:-3]}e10\n  path: 'no'\n", "no.dvc")[0].path == "no"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("outs:\n- etag: x\n  path: a\n", "tracked by etag"),
        ("outs:\n- path: a\n", "never committed"),
        (f"outs:\n- md5: {MD5}\n  path: s3://b/a\n", "outside"),
        (f"outs:\n- md5: {MD5}\n  path: ../../a\n", "outside"),
    ],
)
def test_what_cannot_be_taken_over_says_why(text: str, why: str) -> None:
    (found,) = outputs_of(text, "data/a.dvc")
    assert why in found.skipped


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "- a\n",
        "outs:\n- md5: zz\n  path: a\n",
        "outs:\n- a\n",
        "schema: '2.0'\nstages: [1]\n",
        "a: &x 1\nb: *y\n",
    ],
)
def test_a_broken_file_is_named(text: str) -> None:
    name = "dvc.lock" if "schema" in text else "data/a.dvc"
    with pytest.raises(UsageError) as error:
        outputs_of(text, name)
    assert name in error.value.where


def test_remotes_are_read_with_the_default_first_and_local_settings_over_them(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = far\n['remote \"near\"']\n    url = ../../store\n"
        "['remote \"far\"']\n    url = s3://bucket/x\n    endpointurl = http://one\n"
        "['remote \"below\"']\n    url = remote://far/deep\n[cache]\n    dir = elsewhere\n"
    )
    (tmp_path / ".dvc" / "config.local").write_text(
        "['remote \"far\"']\n    endpointurl = http://two\n    secret_access_key = hush\n"
    )
    found, cache = remotes_of(tmp_path)
    assert [(each.name, each.url) for each in found] == [
        ("far", "s3://bucket/x"),
        ("near", str(tmp_path.parent / "store")),
        ("below", "s3://bucket/x/deep"),
    ]
    assert found[0].endpoint == "http://two"
    assert "hush" not in repr(found)
    assert cache == tmp_path / ".dvc" / "elsewhere"
    assert root_of(tmp_path / ".dvc") == tmp_path
    with pytest.raises(NotFound):
        root_of(tmp_path.parent)


def test_tracking_files_are_found_below_the_root_only_where_people_put_them(tmp_path: Path) -> None:
    for name in ("a.dvc", "b/c.dvc", "b/dvc.lock", ".dvc/tmp/x.dvc", ".git/x.dvc", ".venv/x.dvc", "b/dvc.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert list(tracking_files(tmp_path)) == ["a.dvc", "b/c.dvc", "b/dvc.lock"]


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"b" * 600]), max_size=40).map(b"".join))
def test_legacy_md5s_are_those_of_text_with_unix_line_ends(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("md5") / "file"
    path.write_bytes(content)
    expected = hashlib.md5(content.replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest()
    assert md5_of(path, is_legacy=True) == expected
    assert md5_of(path, is_legacy=False) == hashlib.md5(content, usedforsecurity=False).hexdigest()
    path.write_bytes(b"\0" + content)
    assert md5_of(path, is_legacy=True) == hashlib.md5(b"\0" + content, usedforsecurity=False).hexdigest()


def test_a_line_end_that_two_blocks_share_counts_as_dvc_counts_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * ((1 << 20) - 1) + b"\r\n" + b"tail\r\n")
    # dvc-data 3.18: file_md5(path, name="md5-dos2unix")
    assert md5_of(path, is_legacy=True) == "e7ec5181b27435e9ac47e4b0d1c2a8a1"


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a//b", ""])
def test_a_manifest_never_names_a_place_outside_of_its_folder(tmp_path: Path, path: str) -> None:
    manifest = f'[{{"md5": "{MD5}", "relpath": "{path}"}}]'.encode()
    md5 = hashlib.md5(manifest, usedforsecurity=False).hexdigest()
    place = tmp_path / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
    place.parent.mkdir(parents=True)
    place.write_bytes(manifest)
    (output,) = outputs_of(f"outs:\n- md5: {md5}.dir\n  path: d\n", "d.dvc")
    with pytest.raises(UsageError, match="cannot be a file"):
        Layouts(tmp_path, [], tmp_path / "scratch").manifest(output)


def test_bytes_that_are_others_are_never_given(tmp_path: Path) -> None:
    md5 = hashlib.md5(b"right", usedforsecurity=False).hexdigest()
    place = tmp_path / md5[:2] / md5[2:]
    place.parent.mkdir()
    place.write_bytes(b"wrong")
    with pytest.raises(Corrupt, match="are others"):
        Layouts(tmp_path, [], tmp_path / "scratch").find(md5, is_legacy=False)


def test_names_are_short_where_they_can_be_and_never_the_same() -> None:
    assert _names(["data/prices.csv", "a/x.parquet", "b/x.csv", "a/x.parquet", "größe 1", "..."]) == {
        "data/prices.csv": "prices",
        "a/x.parquet": "a-x",
        "b/x.csv": "b-x",
        "größe 1": "gr-e-1",
        "...": "data",
    }
