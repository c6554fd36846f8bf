"""A process that collects a remote, days from now, until somebody kills it. Run by the tests as a script.

`collect_victim.py ROOT DAYS` opens the project in ROOT and sweeps the remote `origin` as in so many days.
"""

from __future__ import annotations

import sys
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.core.identity import Digest
from noria.data.remote.published import names, trees
from noria.data.remote.remotes import AtRemote, open_remote
from noria.store.collect import DAY_S, Collected, collect


def collected(root: Path, days: float) -> Collected:
    """Sweep what no record of the remote names, as in so many days."""
    remote = open_remote(open_workspace(root), "origin")

    def roots() -> list[Digest]:
        return [Digest(tree) for name in names(remote) for tree in trees(remote, name)]

    at_work = AtRemote(remote)
    return collect(remote.objects, roots, at_work, now=at_work.now() + days * DAY_S, dry_run=False)


if __name__ == "__main__":
    print(collected(Path(sys.argv[1]), float(sys.argv[2])))
