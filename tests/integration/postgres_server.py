"""A real Postgres for a module of tests: started on a free port, thrown away after."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        message = "PostgreSQL's programs (initdb, pg_ctl) are missing: apt-get install -y postgresql"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return Path(initdb).resolve().parent


def as_postgres(*command: str | Path) -> None:
    """Postgres refuses to run as root, so root runs it as the user that its package made."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/")


class Server:
    """A Postgres of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = postgres_programs()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        as_postgres(
            self.programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        as_postgres(
            self.programs / "pg_ctl",
            "-D",
            self.folder / "data",
            "-w",
            "-l",
            self.folder / "log",
            "-o",
            options,
            "start",
        )

    def stop(self, mode: str = "fast") -> None:
        as_postgres(self.programs / "pg_ctl", "-D", self.folder / "data", "-w", "-m", mode, "stop")

    def database(self, name: str) -> str:
        as_postgres(self.programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


@contextmanager
def thrown_away(name: str) -> Iterator[Server]:
    """A started server for the length of a block; `name` tells several of one process apart."""
    # not pytest's folder: its parents are closed to other users, and postgres must get in
    folder = Path(f"/tmp/noria-pg-{name}-{os.getpid()}")
    folder.mkdir()
    try:
        made = Server(folder)
        made.start()
        yield made
        made.stop("immediate")
    finally:
        shutil.rmtree(folder)
