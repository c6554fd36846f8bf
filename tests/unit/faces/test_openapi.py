"""The OpenAPI document: valid, whole, and made from what the verbs declare."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from noria.faces import verbs
from noria.faces.http import openapi


@pytest.fixture(scope="module")
def document() -> Any:
    """The document as a client reads it."""
    return json.loads(openapi.encoded())


def test_the_document_is_valid_openapi(document: Any) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_verb_is_an_operation_with_its_arguments(document: Any) -> None:
    for (capability, name), found in verbs.collect().items():
        operation = document["paths"][f"/api/v1/{capability}/{name}"]["post"]
        asked = operation["requestBody"]["content"]["application/json"]["schema"]
        assert list(asked["properties"]) == [each.name for each in found.parameters]
        assert asked.get("required", []) == [each.name for each in found.parameters if each.is_required]
        assert operation["x-noria-permission"] == found.declaration.permission
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]["required"] == ["result"]


def test_names_of_operations_are_their_own(document: Any) -> None:
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1",
        openapi.PATH,
        "/predict",
        "/predict/{model}",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/feedback",
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/versions/{version}/infer",
        "/healthz",
        "/health",
        "/metrics",
        "/api/v1/governance/verify",
        "/api/v1/governance/export",
    ],
)
def test_what_is_matched_by_hand_is_there_too(document: Any, path: str) -> None:
    assert path in document["paths"]


def test_every_status_of_a_refusal_is_described(document: Any) -> None:
    assert openapi.statuses() == set(openapi.REFUSALS)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert {str(status) for status in openapi.REFUSALS} <= set(operation["responses"]), path


def test_only_health_is_open_and_a_cookie_changes_nothing(document: Any) -> None:
    open_to_all = {
        path
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if operation["security"] == [] or {} in operation["security"]
    }
    assert open_to_all == {"/healthz", "/health", "/v2/health/live", "/v2/health/ready"}
    for path, methods in document["paths"].items():
        assert ("post" in methods) == (
            {"session": []} not in methods.get("post", {}).get("security", [{"session": []}])
        )
        assert len(methods) == 1, path
