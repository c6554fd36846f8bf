"""A process that pushes or pulls until somebody kills it. Run by the S3 tests as a script.

`transfer_victim.py push|pull ROOT` opens the project in ROOT; what was acknowledged is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.data.remote import transfer

if __name__ == "__main__":
    verb, root = sys.argv[1], Path(sys.argv[2])
    done = (transfer.push if verb == "push" else transfer.pull)(open_workspace(root))
    print(f"done {done.objects}", flush=True)
