"""Begins an upload to the object store, or completes one; may be killed anywhere.

`direct_victim.py PROJECT RUN` begins; `… UPLOAD TAG TAG` names the parts by their tags, and completes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from upload_victim import PROXY, Client

from noria.bootstrap import open_workspace


def main(folder: Path, run: str, upload: str = "", *tags: str) -> None:
    """Begin, or complete."""
    client = Client(open_workspace(folder))
    if not upload:
        said: dict[str, object] = {"path": "big.bin", "num_parts": 2}
        done = client.post(f"{PROXY}/create/0/{run}/artifacts", json=said)
    else:
        named = [{"part_number": number, "etag": tag, "url": ""} for number, tag in enumerate(tags, 1)]
        said = {"path": "big.bin", "upload_id": upload, "parts": named}
        done = client.post(f"{PROXY}/complete/0/{run}/artifacts", json=said)
    assert done.status_code == 200, done.text


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
