"""Logged models: clients ask for them whenever they list files. None can be made here, so none is found.

Making one is refused as an endpoint that is not there, which tells a client at once.
"""

from __future__ import annotations

from typing import Any

from noria.faces.protocols.mlflow import names
from noria.faces.protocols.mlflow.messages import INT32, TEXT, Message, Repeated, Spec
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS"]


def search(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The logged models of experiments."""
    for text in given.get("experiment_ids", []):
        names.experiment_number(text)
    return {}


_DATASET = Message({"dataset_name": TEXT, "dataset_digest": TEXT})
ENDPOINTS = {
    ("POST", "logged-models/search"): (
        Spec(
            {
                "experiment_ids": Repeated(TEXT),
                "filter": TEXT,
                "datasets": Repeated(_DATASET),
                "max_results": INT32,
                "page_token": TEXT,
            },
            {
                "experiment_ids": ("array", "texts", "required"),
                "filter": ("text",),
                "datasets": ("array",),
                "max_results": ("int",),
                "order_by": ("array",),
                "page_token": ("text",),
            },
        ),
        search,
    ),
}
