"""A model that is deployed and cannot be loaded is a 503 with its reason, not an unknown name."""

from __future__ import annotations

import pytest

from noria.core.errors import NotFound
from noria.serving.routes import ModelUnavailable, Routes


def test_a_model_that_cannot_be_loaded_says_why() -> None:
    routes = Routes({}, {"churn": "object ab12 was altered"})
    for name in ("churn", ""):
        with pytest.raises(ModelUnavailable, match="object ab12 was altered") as raised:
            routes.of(name)
        assert raised.value.status == 503
    with pytest.raises(NotFound):
        routes.of("other")
