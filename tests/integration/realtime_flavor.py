"""A model that is asked in the server's own process and tells how it is scheduled there, and its flavor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noria.packaging.flavor import NotMine
from noria.packaging.rows import Field

TELL, RUN_AWAY, HOLD = 90.0, 91.0, 92.0
"""Values of the column n0 at which the model does something besides."""


class Model:
    """Answers n0 capped at 1, and on request tells how it is scheduled, or does not come back."""

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        asked = float(frame["n0"].iloc[0])
        if asked == TELL:
            tell(Path(os.environ["PLACE"]))
        elif asked == RUN_AWAY:
            until = time.monotonic() + 60
            while not Path(os.environ["PLACE"], "stop").exists() and time.monotonic() < until:
                pass
        elif asked == HOLD:
            sum(range(10**11))  # minutes within one call, which never lets go of the interpreter
        return np.clip(frame["n0"].to_numpy(dtype=float), 0, 1)


def tell(place: Path) -> None:
    """Write how this thread, one that it starts and a process that it starts are scheduled."""
    found = {"predicting": os.sched_getscheduler(0), "thread id": threading.get_native_id()}
    thread = threading.Thread(target=lambda: found.update(thread=os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    code = "import os; print(os.sched_getscheduler(0))"
    found["child"] = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    part = place / "part"
    part.write_text(json.dumps(found))
    part.replace(place / "told")


class RealtimeFlavor:
    """Keeps `Model`, of which there is nothing to keep."""

    name = "realtime"
    runs_code = False
    packages: tuple[str, ...] = ()

    def save(self, model: object, folder: Path) -> Sequence[str]:
        if not isinstance(model, Model):
            raise NotMine("a model of another")
        (folder / "model.json").write_text("{}")
        return ()

    def load(self, folder: Path) -> object:
        return Model()

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = model.predict(frame)
        return found

    def direct(self, model: Any, fields: Sequence[Field]) -> None:
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        return {}
