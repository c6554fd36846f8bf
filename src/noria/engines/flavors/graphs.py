"""ONNX graphs, answered by ONNX Runtime on the processor: numbers and operators, no code.

A graph takes either one matrix of all columns, or one input a column (as skl2onnx writes pipelines). What it answers
is the probability of the second of two classes, or one number a row. A graph that keeps its weights in other files,
or asks for operators of somebody's own, is refused.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.core.errors import Denied, ModelFailed, UsageError
from noria.packaging.flavor import NotMine
from noria.packaging.rows import Columns, Field

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["Graph", "GraphBinary", "OnnxFlavor", "onnx"]

FILE, DEPTH_MAX = "model.onnx", 50
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


class Graph:
    """A graph behind `predict(frame)`. `content` are the bytes of its file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = [(each.name, each.type, list(each.shape)) for each in self._session.get_inputs()]
        self._output = _output(self._session)
        unknown = [kind for _, kind, _ in self._inputs if kind not in _TYPES]
        if unknown:
            raise UsageError(f"the graph takes a {unknown[0]}, which no column is")
        if len(self._inputs) > 1:
            self.feature_names_in_ = np.asarray([name for name, _, _ in self._inputs], dtype=object)
            self.input_kinds = {
                name: "text" if kind == "tensor(string)" else "number" for name, kind, _ in self._inputs
            }
        elif len(self._inputs[0][2]) == 2 and isinstance(self._inputs[0][2][1], int):
            self.n_features_in_ = self._inputs[0][2][1]

    def predict(self, frame: Any) -> Any:
        """One number a row. Raises: ModelFailed if it gives anything else."""
        found = np.asarray(self._session.run([self._output], self._fed(frame))[0])
        if found.ndim == 2 and found.shape[1] in (1, 2):
            found = found[:, -1]
        if found.shape != (len(frame),) or found.dtype.kind not in "biuf":
            raise ModelFailed(f"the graph gave {found.dtype} of shape {found.shape} for {len(frame)} rows")
        return found.astype(np.float64)

    def _fed(self, frame: Any) -> dict[str, Any]:
        if hasattr(self, "feature_names_in_"):
            return {
                name: np.asarray(frame[name], dtype=_TYPES[kind]).reshape((-1, 1) if len(shape) == 2 else (-1,))
                for name, kind, shape in self._inputs
            }
        ((name, kind, _),) = self._inputs
        rows = frame.to_numpy() if hasattr(frame, "to_numpy") else frame
        return {name: np.ascontiguousarray(rows, dtype=_TYPES[kind])}


class GraphBinary(Graph):
    """A graph of a classifier of two classes."""

    def __init__(self, content: bytes, labels: tuple[Any, ...]) -> None:
        super().__init__(content)
        self.classes_ = labels

    def predict_proba(self, frame: Any) -> Any:
        """Probabilities of the two classes, shape (n_rows, 2)."""
        positive = self.predict(frame)
        return np.column_stack([1.0 - positive, positive])


class OnnxFlavor:
    """ONNX graphs."""

    name = "onnx"
    runs_code = False
    packages = ("onnxruntime", "onnx", "numpy")

    def __init__(self) -> None:
        for library in ("onnx", "onnxruntime"):
            importlib.import_module(library)

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write model.onnx. Raises: NotMine."""
        if not isinstance(model, Graph):
            raise NotMine(f"{type(model).__name__} is not an ONNX graph")
        (folder / FILE).write_bytes(model.content)
        return ()

    def load(self, folder: Path) -> object:
        """The graph of a folder. Raises: Denied for one that needs other files or operators."""
        return _graph((folder / FILE).read_bytes())

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The positive class's probability, or the value."""
        return np.asarray(model.predict(frame), dtype=np.float64)

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """None: a frame becomes the graph's tensors column by column."""
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing: what an encoder in a graph learned is not looked up."""
        return {}


def onnx(model: Any, params: Mapping[str, Any]) -> Any:
    """An onnx.ModelProto, or the path of its file, as a model of rows; anything else as it is.

    Raises: Denied, UsageError.
    """
    if isinstance(model, Path):
        return _graph(model.read_bytes())
    if type(model).__name__ != "ModelProto":
        return model
    return _graph(model.SerializeToString(deterministic=True))


def _graph(content: bytes) -> Graph:
    library = importlib.import_module("onnx")
    proto = library.ModelProto()
    proto.ParseFromString(content)
    foreign = sorted({each.domain for each in proto.opset_import} - _DOMAINS)
    if foreign:
        raise Denied(f"the graph needs operators of {foreign[0][:80]!r}, which are not ONNX's own")
    nodes = [*_nodes(proto.graph), *(node for each in proto.functions for node in each.node)]
    if any(each.data_location == library.TensorProto.EXTERNAL for each in _tensors(proto.graph, nodes)):
        raise Denied(
            "the graph keeps its weights in other files",
            hint="onnx.load(PATH) reads them in: log what it gives, with its weights inside",
        )
    labels = _labels(proto, nodes)
    return Graph(content) if labels is None else GraphBinary(content, labels)


def _nodes(graph: Any, depth: int = 0) -> Iterator[Any]:
    """Every node of a graph and of the graphs inside it. Raises: Denied for one that is nested without end."""
    if depth > DEPTH_MAX:
        raise Denied(f"the graph is nested more than {DEPTH_MAX} deep")
    for node in graph.node:
        yield node
        for each in node.attribute:
            for inner in (*([each.g] if each.HasField("g") else []), *each.graphs):
                yield from _nodes(inner, depth + 1)


def _tensors(graph: Any, nodes: Sequence[Any]) -> Iterator[Any]:
    """Every stored tensor of a graph and of the graphs inside it."""
    inner = [each.g for node in nodes for each in node.attribute if each.HasField("g")]
    inner += [one for node in nodes for each in node.attribute for one in each.graphs]
    for every in (graph, *inner):
        yield from every.initializer
        for each in every.sparse_initializer:
            yield from (each.values, each.indices)
    for node in nodes:
        for each in node.attribute:
            yield from (*([each.t] if each.HasField("t") else []), *each.tensors)
            for sparse in (*([each.sparse_tensor] if each.HasField("sparse_tensor") else []), *each.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _labels(proto: Any, nodes: Sequence[Any]) -> tuple[Any, ...] | None:
    """The labels of a classifier; None of a regression. The graph's metadata says them, or ONNX-ML's operators."""
    for each in proto.metadata_props:
        if each.key == "labels":
            return tuple(json.loads(each.value))
    for node in nodes:
        for each in node.attribute:
            if each.name in ("classlabels_int64s", "classlabels_ints") and len(each.ints):
                return tuple(int(label) for label in each.ints)
            if each.name == "classlabels_strings" and len(each.strings):
                return tuple(label.decode("utf-8") for label in each.strings)
    return None


def _output(session: Any) -> str:
    """The output that is the score: probabilities if there are any, else the only one. Raises: UsageError."""
    outputs = {each.name: each.type for each in session.get_outputs()}
    for name, kind in outputs.items():
        if kind.startswith("seq(map("):
            raise UsageError(
                f"the graph's output {name} is a list of maps, not a tensor",
                hint="convert it again with zipmap=False (skl2onnx: options={'zipmap': False})",
            )
    scores = [name for name, kind in outputs.items() if kind in ("tensor(float)", "tensor(double)")]
    named = [name for name in scores if "prob" in name.lower()]
    if len(named or scores) != 1:
        raise UsageError(f"the graph has {len(outputs)} outputs, and none of them is plainly the score")
    return str((named or scores)[0])
