"""The operations of the API: one table makes the routes, their checks and the OpenAPI document."""

import re
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import tokens
from .guard import Limit
from .http import FRESH, NEVER, Call, Handler, Refusal, Registry, answer
from .types import BESIDE, Problem

PREFIX: Final = "/api/v1"
_MAX_WISH: Final = 64 << 10
_JSON: Final = "application/json"


class Operation(NamedTuple):
    """One thing that can be asked of the registry.

    Attributes:
        method: Of HTTP.
        path: Below the prefix, with parameters in braces.
        handler: Does it; the first line of its docstring is the summary.
        answer: The type of the answer; a text is a media type of an answer that is not JSON.
        query: The parameters behind the question mark.
        wish: The body.
        scope: What the token must be good for, in words; empty when none is needed.
        status: Of the answer.
        form: The body is the form of a publishing request.
    """

    method: str
    path: str
    handler: Handler
    answer: type[msgspec.Struct] | str
    query: type[msgspec.Struct] | None = None
    wish: type[msgspec.Struct] | None = None
    scope: str = ""
    status: int = 200
    form: bool = False


class Gate:
    """What a request passes before its operation: rate limits, and the token."""

    def __init__(self, registry: Registry) -> None:
        self._registry, settings = registry, registry.settings
        self._writes = Limit(settings.writes_per_minute / 60, settings.writes_burst)
        self._failures = Limit(1 / 6, 20)

    async def caller(self, request: Request) -> tokens.Caller:
        """Whose token was sent.

        Raises:
            Refusal: None, or one that is good for nothing.
        """
        address = request.client.host if request.client else ""
        if wait := self._failures.wait(address):
            raise too_many(wait, "too many wrong tokens came from this address")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise _unauthorized('this needs a token: send "Authorization: Bearer frys_..."')
        found = await self._registry.read(lambda db: tokens.find(db, token.strip()))
        if found is None:
            self._failures.take(address)
            raise _unauthorized("the token is unknown, was revoked, or has expired; ask an administrator")
        if wait := self._writes.take(found.token):
            raise too_many(wait, "this token makes too many changes")
        return found


def _unauthorized(detail: str) -> Refusal:
    return Refusal(401, detail, {"www-authenticate": 'Bearer realm="Frys registry"'})


def too_many(wait: float, what: str) -> Refusal:
    """The answer to whoever asks too often (RFC 6585, section 4)."""
    seconds = int(wait) + 1
    return Refusal(429, f"{what}; try again in {seconds} s", {"retry-after": str(seconds)})


def route(operation: Operation, gate: Gate) -> Route:
    """The route of an operation."""

    async def endpoint(request: Request) -> Response:
        registry: Registry = request.app.state.registry
        caller = await gate.caller(request) if operation.scope else None
        query = operation.query and _query(request, operation.query)
        wish = operation.wish and await _wish(request, operation.wish)
        result = await operation.handler(Call(request, registry, query, wish, caller))
        if isinstance(result, Response):
            return result
        cache = NEVER if operation.scope else FRESH
        return answer(request, msgspec.json.encode(result), _JSON, cache=cache, status=operation.status)

    methods = [operation.method, "HEAD"] if operation.method == "GET" else [operation.method]
    return Route(f"{PREFIX}{operation.path}", endpoint, methods=methods)


def _query(request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    given: dict[str, Any] = {}
    many = _many(kind)
    for name, value in request.query_params.multi_items():
        if name in many:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Refusal(400, f"the parameter {name[:40]!r} is there twice")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"a parameter is wrong: {error}") from None


@cache
def _many(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The parameters that may be there several times."""
    about = msgspec.inspect.type_info(kind)
    assert isinstance(about, msgspec.inspect.StructType)
    return frozenset(
        field.encode_name for field in about.fields if isinstance(field.type, msgspec.inspect.VarTupleType)
    )


async def _wish(request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_WISH:
            raise Refusal(413, f"the body has more than {_MAX_WISH} bytes")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise Refusal(422, f"the body is wrong: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {error}") from None


# OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html).


def openapi(operations: Iterable[Operation], title: str) -> dict[str, Any]:
    """The document that describes the operations."""
    operations = list(operations)
    types = {Problem, *(one.answer for one in operations if not isinstance(one.answer, str))}
    types |= {one.wish for one in operations if one.wish}
    _, components = msgspec.json.schema_components(
        sorted(types, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(f"{PREFIX}{operation.path}", {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "An error (RFC 9457)",
                    "content": {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                    },
                }
            },
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    summary = (operation.handler.__doc__ or "").partition("\n")[0].rstrip(".")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    if operation.query is not None:
        parameters += _describe_query(operation.query)
    media = operation.answer if isinstance(operation.answer, str) else _JSON
    content = {} if isinstance(operation.answer, str) else {"schema": _reference(operation.answer)}
    described: dict[str, Any] = {
        "operationId": getattr(operation.handler, "__name__", ""),
        "summary": summary,
        "parameters": parameters,
        "responses": {
            str(operation.status): {
                "description": HTTPStatus(operation.status).phrase,
                "content": {media: content},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if operation.wish is not None:
        described["requestBody"] = {"content": {_JSON: {"schema": _reference(operation.wish)}}}
    if operation.form:
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    if operation.scope:
        described["security"] = [{"token": []}]
        described["description"] = f"Needs a token that is good for {operation.scope}."
    return described


_BYTES: Final = {"type": "string", "contentMediaType": "application/octet-stream"}
_FORM: Final = {
    "type": "object",
    "required": ["package"],
    "properties": dict.fromkeys(("package", *BESIDE), _BYTES),
}


def _describe_query(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": of}
        for name, of in schema["properties"].items()
    ]


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
