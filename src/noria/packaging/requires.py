"""What a bundle needs to be loaded as it was made: Python, its libraries at their versions; and what differs here.

The versions stand in the bundle's manifest. Another version is told, not refused: the golden rows decide whether the
model still answers as it did. Only code that is kept as bytecode needs the same Python.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

from noria.core.errors import ModelFailed
from noria.core.frozen import frozen

__all__ = ["PYTHON", "Difference", "differences", "install", "owners", "require_python", "told", "versions_of"]

PYTHON = "python"
SHOWN = 4
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "xgboost": ("xgboost-cpu",),
    "mlflow": ("mlflow-skinny",),
    "onnxruntime": ("onnxruntime-gpu",),
}
"""The same library under another distribution's name."""
_DISTRIBUTIONS: Mapping[str, str] = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}


@frozen
class Difference:
    """A package that is not here as it was when the model was made; `present` is empty where it is missing."""

    package: str
    locked: str
    present: str

    def text(self) -> str:
        """Such as `scikit-learn 1.8.0 when it was made, 1.9.1 here`."""
        return f"{self.package} {self.locked} when it was made, {self.present or 'missing'} here"


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Python (major and minor) and those of the packages that are installed, with their versions."""
    found = {PYTHON: ".".join(platform.python_version_tuple()[:2])}
    return found | {name: version for name in packages if (version := _version(name))}


def differences(requires: Mapping[str, str]) -> tuple[Difference, ...]:
    """What of a bundle's needs is of another version here, or missing."""
    here = versions_of(name for name in requires if name != PYTHON)
    return tuple(
        Difference(name, version, here.get(name, ""))
        for name, version in sorted(requires.items())
        if here.get(name, "") != version
    )


def owners(names: Iterable[str]) -> tuple[str, ...]:
    """The distributions that full names such as `sklearn.svm.SVC` come from, as far as a module's name tells."""
    roots = {name.partition(".")[0] for name in names}
    return tuple(sorted(_DISTRIBUTIONS.get(root, root.replace("_", "-")) for root in roots))


def told(found: Iterable[Difference]) -> str:
    """The differences as one sentence, at most SHOWN of them."""
    lines = [each.text() for each in found]
    return "; ".join(lines[:SHOWN]) + (f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")


def install(found: Iterable[Difference]) -> str:
    """The next step that takes the differences away."""
    wanted = [f"{each.package}=={each.locked}" for each in found if each.package != PYTHON]
    return f"pip install {' '.join(wanted)}" if wanted else "noria env rebuild RUN DIR makes the environment of its run"


def require_python(found: Iterable[Difference]) -> None:
    """Bytecode is of one Python. Raises: ModelFailed if that is another."""
    for each in found:
        if each.package == PYTHON:
            raise ModelFailed(
                f"the model holds code of Python {each.locked}, and this is Python {each.present}",
                hint="noria env rebuild RUN DIR makes the environment of its run",
            )


def _version(package: str) -> str:
    for name in (package, *_OTHER_NAMES.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
