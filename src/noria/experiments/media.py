"""Figures, tables and images as files that any tool opens: PNG, HTML, Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.core.errors import UsageError
from noria.core.lazy import lazy

__all__ = ["figure", "image", "table"]

pa = lazy("pyarrow")
pq = lazy("pyarrow.parquet")
pil_image = lazy("PIL.Image")


def figure(found: Any) -> tuple[bytes, str]:
    """The bytes of a figure and their suffix: Matplotlib's as PNG, Plotly's and Bokeh's as HTML.

    Raises: UsageError for what is no figure.
    """
    if hasattr(found, "savefig"):
        sink = io.BytesIO()
        found.savefig(sink, format="png", bbox_inches="tight")
        return sink.getvalue(), ".png"
    if hasattr(found, "to_html"):
        return str(found.to_html(include_plotlyjs=True)).encode(), ".html"
    raise UsageError(f"{type(found).__name__} is no figure", hint="a figure of Matplotlib or Plotly")


def table(rows: Any) -> bytes:
    """A table as Parquet: of pandas, polars or Arrow, a mapping of columns, or a list of rows.

    Raises: UsageError for what is no table.
    """
    if hasattr(rows, "__arrow_c_stream__"):
        made = pa.table(rows)
    elif isinstance(rows, Mapping):
        made = pa.table({str(name): list(values) for name, values in rows.items()})
    elif isinstance(rows, Sequence) and not isinstance(rows, str) and all(isinstance(row, Mapping) for row in rows):
        made = pa.Table.from_pylist([dict(row) for row in rows])
    elif hasattr(rows, "columns") and hasattr(rows, "index"):
        made = pa.Table.from_pandas(rows)
    else:
        raise UsageError(f"{type(rows).__name__} is no table", hint="a data frame, columns by name, or a list of rows")
    sink = io.BytesIO()
    pq.write_table(made, sink, compression="zstd", version="2.6")
    return sink.getvalue()


def image(found: Any) -> tuple[bytes, str]:
    """The bytes of an image and their suffix: a file as it is, an image of Pillow or an array of uint8 as PNG.

    Args:
        found: an array has the shape (height, width), (height, width, 3) or (height, width, 4).
    Raises: UsageError for what is no image, or an array without Pillow.
    """
    if isinstance(found, str | Path):
        path = Path(found)
        return path.read_bytes(), path.suffix
    if hasattr(found, "shape") and not hasattr(found, "save"):
        if str(getattr(found, "dtype", "")) != "uint8":
            raise UsageError("an array of an image has the dtype uint8", hint="(array * 255).astype('uint8')")
        try:
            found = pil_image.fromarray(found)
        except ModuleNotFoundError as error:
            raise UsageError("an array as an image needs Pillow", hint="pip install pillow") from error
    if not hasattr(found, "save"):
        raise UsageError(f"{type(found).__name__} is no image", hint="a file, an image of Pillow, an array of uint8")
    sink = io.BytesIO()
    found.save(sink, format="PNG")
    return sink.getvalue(), ".png"
