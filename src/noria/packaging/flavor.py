"""What a bundle is, and the seam to the libraries whose models it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from noria.core.errors import Denied
from noria.core.frozen import frozen
from noria.core.schema import Signature
from noria.packaging.rows import Columns, Field, Rows
from noria.store.tree import Tree

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["Bundle", "Direct", "Flavor", "NotMine", "Written"]

Direct = Callable[[Columns], "npt.NDArray[np.float64]"]
"""Scores straight from checked columns, shape (n_rows,)."""


class NotMine(Denied):
    """A model that is another flavor's."""


class Flavor(Protocol):
    """How one kind of model is saved, loaded and asked. Implementations are in engines/flavors.

    `runs_code` says that loading runs what the file says (a pickle, a program): such a model is kept by permission
    only and asked in a process of its own. `packages` are the distributions whose versions its files depend on.
    """

    name: str
    runs_code: bool
    packages: tuple[str, ...]

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write the model as files into an empty folder; the same model gives the same bytes.

        Gives what the files name beyond what the format itself is known to trust: types, or a pickle's globals.
        Raises, with nothing written: NotMine for a model of another; Denied for one that it cannot hold.
        """
        ...

    def load(self, folder: Path) -> object:
        """The model of a folder. Raises: Denied for what the flavor does not allow."""
        ...

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Scores of a frame, shape (n_rows,): the positive class's probability, or the value."""
        ...

    def direct(self, model: Any, fields: Sequence[Field]) -> Direct | None:
        """A faster way to the same scores, or None if the flavor knows none for this model."""
        ...

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """The levels that the model learned, by column, as far as the flavor can tell."""
        ...


@frozen(kw_only=True)
class Written:
    """What a bundle's folder does not say of itself: the flavor, (negative, positive) or (), needs and types.

    `ranges` are [least, greatest, rows without] of the inputs that have an order, in the `rows` rows it was made with.
    """

    flavor: str
    labels: tuple[Any, ...]
    requires: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    rows: int = 0
    ranges: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Binary if there are labels, else regression."""
        return "binary" if self.labels else "regression"


@frozen(kw_only=True)
class Bundle:
    """A model version's content. `task` is "binary" or "regression"; `labels` are (negative, positive).

    `fields` are the inputs with their dtypes of training, `environment` the digest of the lock,
    `golden_rows` and `golden_scores` rows with the exact scores that the model gave at the build. `requires` are
    Python and the packages that its files depend on, with their versions; `types` what the files name beyond what
    their format itself trusts.
    """

    digest: str
    flavor: str
    task: str
    labels: tuple[Any, ...]
    threshold: float
    environment: str
    tree: str
    files: Tree
    fields: tuple[Field, ...]
    example: tuple[Mapping[str, Any], ...]
    golden_rows: tuple[Mapping[str, Any], ...]
    golden_scores: tuple[float, ...]
    requires: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return Rows(self.fields).signature

    @property
    def size_bytes(self) -> int:
        """The bytes of all its files."""
        return sum(entry.size_bytes for entry in self.files.entries)
