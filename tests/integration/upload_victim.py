"""Uploads an artifact in parts as a client does, in one process with the server's routes; it may be killed anywhere.

`upload_victim.py PROJECT RUN` begins an upload; `… UPLOAD` goes on with one, sending only what is not there. The
last line is JSON: the upload's id and how many parts were sent.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from noria.bootstrap import open_workspace
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow.routes import routes
from noria.store.workspace import Workspace

PROXY = "/api/2.0/mlflow-artifacts/mpu"
COUNT = 3


class Client:
    """Requests to the server's routes, in this process."""

    def __init__(self, ws: Workspace) -> None:
        self._transport = httpx.ASGITransport(app=behind(Guard(ws), Starlette(routes=routes(ws))))

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The whole answer to one request."""

        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://localhost") as client:
                return await client.request(method, path, **given)

        return asyncio.run(asked())

    def get(self, path: str, **given: Any) -> httpx.Response:
        """GET."""
        return self.ask("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        """POST."""
        return self.ask("POST", path, **given)

    def put(self, path: str, **given: Any) -> httpx.Response:
        """PUT."""
        return self.ask("PUT", path, **given)


def parts() -> list[bytes]:
    """What is sent: the same every time."""
    chance = random.Random(5)
    return [chance.randbytes(300_000 + number) for number in range(COUNT)]


def main(folder: Path, run: str, upload: str) -> None:
    """Send what is missing, and complete."""
    ws = open_workspace(folder)
    client = Client(ws)
    place = f"0/{run}/artifacts/deep"
    if not upload:
        begun = client.post(f"{PROXY}/create/{place}", json={"path": "/home/ann/big.bin", "num_parts": COUNT})
        assert begun.status_code == 200, begun.text
        upload = begun.json()["upload_id"]
        print(json.dumps({"upload": upload}), flush=True)
    known = client.get(f"{PROXY}/part/{upload}")
    assert known.status_code == 200, known.text
    there = {each["part_number"]: each["etag"] for each in known.json()["parts"]}
    sent = 0
    for number, content in enumerate(parts(), 1):
        if number not in there:
            answer = client.put(f"{PROXY}/part/{upload}/{number}", content=content)
            assert answer.status_code == 200, answer.text
            there[number] = answer.headers["etag"]
            sent += 1
    named = [{"part_number": number, "etag": there[number], "url": ""} for number in sorted(there)]
    said = {"path": "/home/ann/big.bin", "upload_id": upload, "parts": named}
    for _ in range(2):  # the answer to the first may be lost
        done = client.post(f"{PROXY}/complete/{place}", json=said)
        assert done.status_code == 200, done.text
    print(json.dumps({"upload": upload, "sent": sent}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
