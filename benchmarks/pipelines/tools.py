"""The tools that are compared: each makes the same pipelines in its own manner, in an environment of its own.

A pipeline is a `chain` of steps that each add one to the value before, or a `fan` of steps that each
add one to a number of their own, and one that sums them. A script of a tool prints the value and how many steps
ran, so that nobody is measured on work not done. A floor is a tool too: `Loop` is the floor of all
of them, and another one (what a cluster needs for bare tasks, say) is one class here and its script.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import metaflow_source
from cost import Cost, Failure, measured
from environments import HERE, ROOT
from raynode import Node

NONE = "none"


def expected(shape: str, size: int, first: int) -> int:
    """The value of a pipeline."""
    return first + size if shape == "chain" else sum(first + number + 1 for number in range(size))


class Tool:
    """One tool with one state, in a folder of its own: `HOME` and temporary files are below it too."""

    name = ""
    peer = True
    """Whether it stands in an environment of its own."""
    caches = True
    """Whether it finds results of an earlier run."""
    imports = ""
    """What a file with a pipeline begins with."""
    manner = ""
    """How it is used here, in a few words."""
    slow = False
    """Whether a hundred steps take minutes."""
    locked = ""
    """The lock of its environment, from the root of the repository; "" for the one in `requirements` of its name."""
    on_ray = False
    """Whether it works on a Ray cluster, which is started before its first run."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        for name in ("home", "tmp", "project"):
            (folder / name).mkdir(parents=True)
        self.project = folder / "project"
        self._node: Node | None = None

    def environment(self) -> dict[str, str]:
        """What the processes are told: nothing of the user's, no way out of this machine, no telemetry."""
        nowhere = "http://127.0.0.1:9"
        return {
            "PATH": f"{self.python.parent}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "USER": "bench",
            "LANG": "C.UTF-8",
            "DO_NOT_TRACK": "1",
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
            "http_proxy": nowhere,
            "https_proxy": nowhere,
            "NO_PROXY": "127.0.0.1,localhost,::1",
            "no_proxy": "127.0.0.1,localhost,::1",
            **self.settings(),
            **(self._node.settings if self._node is not None else {}),
        }

    def settings(self) -> dict[str, str]:
        """The tool's own settings: its state in the folder, its telemetry off."""
        return {}

    def write(self, shape: str, size: int, first: int) -> list[str]:
        """Make the pipeline and give the command that runs it."""
        shutil.copy(HERE / "scripts" / f"{self.name}.py", self.project / "pipeline.py")
        return [str(self.python), "pipeline.py", shape, str(size), str(first)]

    def told(self, said: str) -> tuple[int | None, int]:
        """The value and how many steps ran, from what a run said."""
        found = re.findall(r'\{"value": (-?\d+), "ran": (\d+)\}', said)
        if not found:
            raise Failure(f"no result in: {said[-300:]}")
        return int(found[-1][0]), int(found[-1][1])

    def run(self, shape: str, size: int, first: int, *, cached: bool = False) -> Cost:
        """The cost of one run. Raises: Failure, also for a wrong value or for steps that ran and should not."""
        if self.on_ray and self._node is None:
            self._node = Node(self.python, self.environment())
        cost, said = measured(self.write(shape, size, first), self.project, self.environment())
        value, ran = self.told(said)
        if value not in (None, expected(shape, size, first)):
            raise Failure(f"gave {value} instead of {expected(shape, size, first)}")
        if ran != (0 if cached else size):
            raise Failure(f"{ran} of {size} steps ran, {'which were cached' if cached else 'none was cached'}")
        return cost

    def close(self) -> None:
        """End what it has beside its folder."""
        if self._node is not None:
            self._node.close()
            self._node = None

    def start(self) -> Cost:
        """The cost of the imports alone."""
        return measured([str(self.python), "-c", self.imports], self.project, self.environment())[0]

    def version(self) -> str:
        """Which version is measured."""
        code = f"from importlib.metadata import version; print(version({self.package()!r}))"
        return measured([str(self.python), "-c", code], self.project, self.environment())[1].strip()

    def package(self) -> str:
        """The distribution's name."""
        return self.name


class Loop(Tool):
    """The floor of all: the functions, called in a loop."""

    name = "loop"
    peer = False
    caches = False
    imports = "pass"
    manner = "the same functions in a plain Python loop"

    def version(self) -> str:
        """Python's."""
        return ".".join(map(str, sys.version_info[:3]))


_NORIA = '''"""A {shape} of {size}."""

import noria as nr


@nr.step
def add(value: int) -> int:
    """One step."""
    return value + 1


@nr.step
def total(values: list[int]) -> int:
    """What joins a fan-out."""
    return sum(values)


@nr.pipeline
def {shape}():
    """The pipeline."""
{body}
'''


class Noria(Tool):
    """This tree's own, by its command line, with lineage and everything else that is on by default."""

    name = "noria"
    peer = False
    imports = "import noria as nr; nr.step, nr.pipeline"
    manner = "noria run, everything on"

    def write(self, shape: str, size: int, first: int) -> list[str]:
        """A project with one pipeline."""
        body = f"    total([add(number) for number in range({first}, {first + size})])"
        if shape == "chain":
            body = f"    value = {first}\n    for _ in range({size}):\n        value = add(value)"
        (self.project / "noria.toml").write_text('[project]\nname = "bench"\n')
        (self.project / "pipeline.py").write_text(_NORIA.format(shape=shape, size=size, body=body))
        return [str(self.python), "-m", "noria", "run", "--json"]

    def told(self, said: str) -> tuple[int | None, int]:
        """How many steps ran; the report of a run has no values."""
        steps = json.loads(said.splitlines()[-1])["steps"]
        bad = [line for line in steps if line["status"] not in ("done", "cached")]
        if bad:
            raise Failure(f"step {bad[0]['step']} is {bad[0]['status']}")
        return None, sum(line["status"] == "done" and line["step"] != "total" for line in steps)


class Prefect(Tool):
    """Prefect 3. Its settings: "Settings reference", server.analytics_enabled."""

    name = "prefect"
    imports = "from prefect import flow, task; from prefect.cache_policies import INPUTS, TASK_SOURCE"
    manner = "flow of tasks on its temporary server; cache by source and inputs, results kept"

    def settings(self) -> dict[str, str]:
        """No analytics, and time for the server to start on a busy machine; its state is in `HOME`."""
        return {
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        }


class Dagster(Tool):
    """Dagster. Its settings: "Telemetry" and "dagster.yaml reference"."""

    name = "dagster"
    caches = False
    imports = "from dagster import DagsterInstance, DynamicOut, DynamicOutput, graph, op"
    manner = "job of ops in one process, recorded in its instance; caching is by hand"

    def settings(self) -> dict[str, str]:
        """An instance in the folder; no telemetry."""
        home = self.folder / "dagster"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        return {"DAGSTER_HOME": str(home)}


class Metaflow(Tool):
    """Metaflow, which runs each step as a process, with data on the local disk."""

    name = "metaflow"
    caches = False
    slow = True
    imports = "from metaflow import FlowSpec, Parameter, step"
    manner = "flow of steps, each its own process by its design; 1 step is its least, 2"

    def settings(self) -> dict[str, str]:
        """State in the folder."""
        return {"METAFLOW_USER": "bench", "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.folder / "metaflow")}

    def write(self, shape: str, size: int, first: int) -> list[str]:
        """A class for each shape and size."""
        (self.project / "pipeline.py").write_text(metaflow_source.flow(shape, size))
        most = ["--max-num-splits", str(max(size, 100))]
        return [str(self.python), "pipeline.py", "run", *most, "--first", str(first)]


class ZenML(Tool):
    """ZenML on its default local stack. Its settings: "Environment variables"."""

    name = "zenml"
    imports = "from zenml import pipeline, step"
    manner = "static pipeline for chains, dynamic map for the fan-out, default stack; caches by itself"

    def settings(self) -> dict[str, str]:
        """State in the folder; no analytics, no dashboard."""
        return {
            "ZENML_CONFIG_PATH": str(self.folder / "zenml"),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "AUTO_OPEN_DASHBOARD": "false",
        }


class Hamilton(Tool):
    """Apache Hamilton. Its settings: "Usage analytics & data privacy"."""

    name = "hamilton"
    imports = "from hamilton import driver; from hamilton.function_modifiers import parameterize, source"
    manner = "parameterized functions with its cache"

    def settings(self) -> dict[str, str]:
        """No telemetry."""
        return {"HAMILTON_TELEMETRY_ENABLED": "false"}

    def package(self) -> str:
        """As its project calls it since it is Apache's."""
        return "apache-hamilton"


class Kedro(Tool):
    """Kedro used from Python. Its settings: kedro-telemetry's "How do I opt out"."""

    name = "kedro"
    caches = False
    imports = (
        "from kedro.io import DataCatalog; from kedro.pipeline import node, pipeline; "
        "from kedro.runner import SequentialRunner"
    )
    manner = "nodes, data in memory, sequential runner, no project around it"

    def settings(self) -> dict[str, str]:
        """No telemetry."""
        return {"KEDRO_DISABLE_TELEMETRY": "true"}


class Ray(Tool):
    """Bare Ray: what tasks cost that nobody records."""

    name = "ray"
    caches = False
    on_ray = True
    imports = "import ray"
    manner = "bare tasks, nothing recorded; a cluster of one node is there before, and is not in the figures"


class NoriaOnRay(Noria):
    """This tree's own on the same sort of cluster, beside bare Ray."""

    name = "noria-ray"
    peer = True
    locked = "requirements/peer-ray.txt"
    on_ray = True
    manner = "noria run --executor ray, everything on; the cluster as that of ray"

    def settings(self) -> dict[str, str]:
        """This tree's source, in Ray's environment."""
        return {"PYTHONPATH": str(ROOT / "src")}

    def write(self, shape: str, size: int, first: int) -> list[str]:
        """The same on that executor."""
        return [*super().write(shape, size, first), "--executor", "ray"]

    def package(self) -> str:
        """What is installed in its environment."""
        return "ray"


TOOLS: tuple[type[Tool], ...] = (
    *(Loop, Noria, Hamilton, Kedro, Dagster, ZenML, Prefect, Metaflow),
    *(Ray, NoriaOnRay),
)
