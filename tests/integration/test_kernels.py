"""A notebook's kernel always ends, asked in vain or hanging in its exit, and not before its work is done."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from script_project import last, made_in, noria, notebook

from noria.faces.kernel import Kernel
from noria.scripts.launch import prepared, watched_environment

DEAF = """
kernel = get_ipython().kernel
real, asked = kernel.control_handlers["shutdown_request"], []

async def deaf(*message):
    asked.append(message)
    if len(asked) > 1:
        open("heard.txt", "w").write(str(len(asked)))
        await real(*message)

kernel.control_handlers["shutdown_request"] = deaf
"""
STAYS = """
import threading

class Stays:
    def __del__(self):
        open("stays.txt", "w").close()
        threading.Event().wait()

stays = Stays()
"""
LINGERS = """
import atexit, time

def linger():
    time.sleep(4)
    open("lingered.txt", "w").close()

atexit.register(linger)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_in(tmp_path)


def test_a_request_to_end_that_is_not_heard_is_sent_again(folder: Path) -> None:
    notebook(folder / "deaf.ipynb", [DEAF, "open('data.csv').read(3)"])
    done = noria(folder, "run", "deaf.ipynb")
    assert done.returncode == 0, done.stderr
    assert (folder / "heard.txt").read_text() == "2"
    _, run, document = last(folder)
    assert run.status == "finished"
    assert [f["path"] for f in document["read"]] == ["data.csv"]


def test_a_kernel_that_does_not_leave_after_its_end_is_taken_away_and_its_run_is_whole(folder: Path) -> None:
    notebook(folder / "stays.ipynb", ["import json\nopen('data.csv').read(3)", STAYS])
    done = noria(folder, "run", "stays.ipynb")
    assert done.returncode == 0, done.stderr
    assert (folder / "stays.txt").exists()
    _, run, document = last(folder)
    assert run.status == "finished"
    assert [f["path"] for f in document["read"]] == ["data.csv"]


def test_what_cells_registered_for_the_end_may_take_longer_than_leaving(tmp_path: Path) -> None:
    prepared(tmp_path / "capture", tmp_path, tmp_path / ".noria")

    async def act() -> None:
        kernel = Kernel(kernel_name="python3")
        kernel.capture, kernel.leave_s = tmp_path / "capture", 1.0
        await kernel.start_kernel(cwd=str(tmp_path), env=watched_environment(tmp_path / "capture", os.environ))
        client = kernel.client()
        client.start_channels()
        await client.wait_for_ready()
        await client.execute(LINGERS, reply=True)
        client.stop_channels()
        await kernel.shutdown_kernel()
        assert not kernel.has_kernel

    asyncio.run(act())
    assert (tmp_path / "lingered.txt").exists()
