"""The HTTP interface as an OpenAPI 3.1 document, made from what answers it.

A verb's operation is its declaration: its arguments, the type that it returns, its permission and the first
line of its docs. The paths that models answer are few and matched by hand (`app.py`); what they take is what
their decoders decode, and what they answer is written here. Nothing of a project is in it, so it is made once.
The pages and the interfaces of other trackers are not described: their own projects do that.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from noria.core import errors
from noria.core.lazy import lazy
from noria.faces import shapes, verbs
from noria.faces.http.body import BodyTooLarge, HeadTooLarge, RequestTimeout
from noria.faces.http.feedback import MOST_LABELS, Labels
from noria.faces.http.infer import DATATYPES, MOST_TEXT, ROW_TYPE, InferRequest, Predict

__all__ = ["PATH", "document", "encoded"]

msgspec_json = lazy("msgspec.json")
Schema = dict[str, Any]
PATH = "/api/v1/openapi.json"
COMPONENT = "#/components/schemas/{}"
REFUSALS = {
    400: "What was sent cannot be taken: the message says why.",
    401: "Nobody is known by what came with the request.",
    403: "Who asks may not do this.",
    404: "What was named is not there.",
    405: "The path takes another method.",
    408: "The rest of the request did not come.",
    409: "Somebody else moved first, or the state forbids it.",
    413: "The body is larger than `[server] max_body_bytes`.",
    422: "The project's own code failed, or a gate said no.",
    429: "Too many wrong tokens came from this address.",
    431: "The head of the request is too large.",
    500: "What is stored is damaged, a model failed, or the server has a fault.",
    503: "The database, a store or the server cannot do it now; `retry-after` says when to ask again.",
    504: "A model did not answer in time.",
    507: "No space is left.",
}
"""What each status of a refusal means, for every path."""
READER: list[Schema] = [{"bearer": []}, {"basic": []}, {"session": []}]
CHANGER: list[Schema] = [{"bearer": []}, {"basic": []}]
TEXT, NUMBER, WHOLE, FLAG = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
VALUE: Schema = {"type": ["boolean", "number", "string", "null"]}


@functools.cache
def encoded() -> bytes:
    """The document as JSON. The first call imports every verb."""
    return verbs.encode(document())


def document() -> Schema:
    """The OpenAPI document. Raises: TypeError for a verb whose result cannot be described (a bug)."""
    found = verbs.collect()
    kinds = shapes.Shapes(COMPONENT)
    paths = {f"/api/v1/{capability}/{name}": {"post": _verb(each, kinds)} for (capability, name), each in found.items()}
    told = 'One JSON answer for each request; a refusal is `{"error": {code, message, where, hint}}`.'
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Noria",
            "version": importlib.metadata.version("noria"),
            "description": f"{told} A server on loopback of a project that never had a token asks for none.",
        },
        "security": CHANGER,
        "tags": [{"name": name} for name in ("about", "models", *dict.fromkeys(group for group, _ in found))],
        "paths": {**_about(), **_models(), **paths},
        "components": {
            "schemas": {**_requests(), **_answers(), **kinds.components},
            "responses": {str(status): _refusal(text) for status, text in REFUSALS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `noria token create`."},
                "basic": {"type": "http", "scheme": "basic", "description": "Any name, and a token as the password."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "noria",
                    "description": "Of a login; opens what only reads. Its name may carry more after `noria`.",
                },
            },
        },
    }


def statuses() -> frozenset[int]:
    """Every status that a refusal of ours can have."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    return frozenset({each.status for each in (*kinds, BodyTooLarge, HeadTooLarge, RequestTimeout)} | {401, 405, 429})


def _refusal(text: str) -> Schema:
    return {"description": text, "content": _json(_of("Failure"))}


def _of(name: str) -> Schema:
    return {"$ref": COMPONENT.format(name)}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _object(fields: Mapping[str, Schema], *, optional: Sequence[str] = ()) -> Schema:
    required = [name for name in fields if name not in optional]
    schema = {"type": "object", "properties": dict(fields), "required": required, "additionalProperties": False}
    return {key: value for key, value in schema.items() if value != [] or key != "required"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _operation(
    name: str, tag: str, summary: str, answer: Schema, *, security: Sequence[Schema] = READER, kind: str = ""
) -> Schema:
    """One operation: its own answer and every refusal.

    Args:
        answer: the schema of the answer's body.
        kind: the media type of the answer, if it is not JSON.
    """
    content = {kind: {"schema": answer}} if kind else _json(answer)
    refusals = {str(status): {"$ref": f"#/components/responses/{status}"} for status in REFUSALS}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": list(security),
        "responses": {"200": {"description": "Done.", "content": content}, **refusals},
    }


def _verb(found: verbs.FoundVerb, kinds: shapes.Shapes) -> Schema:
    declared = found.declaration
    answer = _object({"result": kinds.result(found.function)})
    name = f"{declared.capability}.{declared.name}"
    made = _operation(name, declared.capability, found.summary, answer, security=CHANGER)
    asked = shapes.arguments(found)
    return {
        **made,
        "requestBody": {"required": "required" in asked, "content": _json(asked)},
        "x-noria-permission": declared.permission,
        "x-noria-changes": declared.is_change,
    }


def _about() -> Schema:
    """What says something of the server itself."""
    alive = _object({"live": FLAG, "ready": FLAG})
    open_to_all: list[Schema] = []
    busy = {"503": {"description": "It does not answer as it should.", "content": _json(_of("Health"))}}
    health = _operation("healthz", "about", "Whether the server answers, and with what.", _of("Health"))
    ready = _operation("v2.health.ready", "about", "Whether it can predict.", alive, security=open_to_all)
    live = _operation("v2.health.live", "about", "Whether it lives.", alive, security=open_to_all)
    plain = _operation("health", "about", "Whether it lives, as a text.", TEXT, security=open_to_all, kind="text/plain")
    metrics = _operation("metrics", "about", "What Prometheus scrapes.", TEXT, kind="text/plain")
    listing = _operation("verbs", "about", "Every verb with its arguments and permission.", _of("Verbs"))
    itself = _operation("openapi", "about", "This document.", {"type": "object"})
    health["security"] = [{}, *READER]
    health["responses"] |= busy
    ready["responses"] |= {"503": {"description": "It cannot predict now.", "content": _json(alive)}}
    found = {
        "/healthz": health,
        "/health": plain,
        "/v2/health/live": live,
        "/v2/health/ready": ready,
        "/metrics": metrics,
        "/api/v1": listing,
        PATH: itself,
    }
    return {path: {"get": each} for path, each in found.items()}


def _models() -> Schema:
    """What models answer."""
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    release = {
        "name": "x-noria-release",
        "in": "header",
        "description": "The release that shall answer.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    }

    def look(name: str, summary: str, answer: Schema, *parameters: Schema) -> Schema:
        made = _operation(name, "models", summary, answer)
        return {"get": {**made, "parameters": list(parameters)} if parameters else made}

    def send(name: str, summary: str, asked: str, answer: Schema, *parameters: Schema) -> Schema:
        made = _operation(name, "models", summary, answer, security=CHANGER)
        body = {"required": True, "content": _json(_of(asked))}
        return {"post": {**made, "parameters": list(parameters), "requestBody": body}}

    predicted = {"anyOf": [_of("Prediction"), _of("Predictions")]}
    inferred, told = _of("InferAnswer"), _of("Model")
    server = _object({"name": TEXT, "version": TEXT, "extensions": _list(TEXT)})
    ready = _object({"name": TEXT, "ready": FLAG})
    one, below = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    return {
        "/predict": send("predict", "Ask the only model.", "Predict", predicted, release),
        "/predict/{model}": send("predict.model", "Ask a model.", "Predict", predicted, model, release),
        "/v2": look("v2", "The server, by the Open Inference Protocol.", server),
        "/v2/models": look("v2.models", "The models that answer.", _object({"models": _list(TEXT)})),
        one: look("v2.model", "What a model takes and gives.", told, model),
        f"{one}/ready": look("v2.model.ready", "Whether a model answers.", ready, model),
        f"{one}/infer": send("v2.infer", "Ask a model.", "InferRequest", inferred, model),
        f"{one}/feedback": send("v2.feedback", "Say what came true.", "Labels", _object({"accepted": WHOLE}), model),
        below: look("v2.version", "What a release takes and gives.", told, model, version),
        f"{below}/ready": look("v2.version.ready", "Whether a model answers.", ready, model, version),
        f"{below}/infer": send("v2.version.infer", "Ask a release.", "InferRequest", inferred, model, version),
    }


def _requests() -> dict[str, Schema]:
    """What the paths of models take, as their decoders decode it."""
    _, found = msgspec_json.schema_components((Predict, InferRequest, Labels), ref_template=COMPONENT.format("{name}"))
    made: dict[str, Schema] = dict(found)
    row, _ = msgspec_json.schema_components((ROW_TYPE,))
    asked = made["Predict"]["properties"]
    asked["row"] = row[0]
    asked["rows"] = {"type": "array", "items": row[0], "minItems": 1}
    made["Predict"]["oneOf"] = [{"required": ["row"]}, {"required": ["rows"]}]
    for name in ("id", "key"):
        asked[name] = {**asked[name], "maxLength": MOST_TEXT}
    made["Tensor"]["properties"]["datatype"] = {"enum": list(DATATYPES)}
    made["Labels"]["properties"]["labels"]["maxItems"] = MOST_LABELS
    return made


def _answers() -> dict[str, Schema]:
    """What the paths of models and of the server itself answer."""
    error = _object(dict.fromkeys(("code", "message", "where", "hint"), TEXT))
    failure = _object({"error": error, "column": TEXT, "id": TEXT}, optional=("column", "id"))
    tensor = {"name": TEXT, "datatype": TEXT, "shape": _list(WHOLE)}
    answered = {"id": TEXT, "model": TEXT, "release": WHOLE}
    argument: dict[str, Schema] = {"name": TEXT, "kind": {"enum": list(verbs.KINDS)}, "required": FLAG, "default": {}}
    described = {
        "path": TEXT,
        "permission": TEXT,
        "changes": FLAG,
        "summary": TEXT,
        "arguments": _list(_object(argument)),
    }
    deployed = _object({"deployment": WHOLE, "releases": _list(WHOLE)})
    seen: dict[str, Schema] = {
        "models": {"type": "object", "additionalProperties": deployed},
        "queued_rows": WHOLE,
        "scheduling": TEXT,
    }
    many = {"prediction_id": _list(TEXT), "score": _list(NUMBER), "label": _list(VALUE)}
    outputs = _list(_object({**tensor, "data": _list(VALUE)}))
    ids = _object({"prediction_ids": TEXT})
    return {
        "Failure": {"description": "Why something was refused, and what to do next.", **failure},
        "Health": _object({"ok": FLAG, **seen}, optional=tuple(seen)),
        "Verbs": _object({"verbs": _list(_object(described)), "openapi": TEXT}),
        "Prediction": _object({**answered, "prediction_id": TEXT, "score": NUMBER, "label": VALUE}),
        "Predictions": _object({**answered, **many}),
        "InferAnswer": _object(
            {"model_name": TEXT, "model_version": TEXT, "id": TEXT, "parameters": ids, "outputs": outputs}
        ),
        "Model": _object(
            {
                "name": TEXT,
                "versions": _list(TEXT),
                "platform": TEXT,
                "inputs": _list(_object(tensor)),
                "outputs": _list(_object(tensor)),
            }
        ),
    }
