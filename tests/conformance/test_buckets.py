"""Every bucket that Noria brings does what the seam asks for; S3 is asked on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from noria import plugins
from noria.core.errors import UsageError
from noria.engines.objects.bucket import S3Bucket
from noria.engines.objects.folder import FolderBucket
from noria.store.bucket import Bucket
from noria.testing.buckets import BucketConformance

if TYPE_CHECKING:
    from s3_server import S3Server


class TestFolderBucket(BucketConformance):
    @pytest.fixture
    def bucket(self, tmp_path: Path) -> Bucket:
        return FolderBucket(str(tmp_path / "bucket"))

    @pytest.mark.parametrize("key", ["../x", "/x", "a/../../x", "a\0"])
    def test_a_key_never_leaves_the_folder(self, bucket: Bucket, key: str) -> None:
        with pytest.raises(UsageError):
            bucket.create(key, b"")


class TestS3Bucket(BucketConformance):
    @pytest.fixture
    def bucket(self, s3_server: S3Server) -> Bucket:
        return S3Bucket(s3_server.new_bucket(), s3_server.endpoint)


def test_every_built_in_bucket_is_tested_here() -> None:
    assert {plugins.load("bucket", name) for name in plugins.BUILTIN["bucket"]} == {FolderBucket, S3Bucket}
