"""wasi:http: requests through the host's service ``http``, and handlers that the host calls.

A request is sent when the component first looks for its answer and has finished the body; until then nothing
waits. What the policy does not grant is the error HTTP-request-denied.
"""

from collections.abc import Callable
from typing import Any

from ..failures import HostRefused, LimitReached, PluginRaised
from ..host import Host
from .http_fields import FIELDS, Fields
from .http_types import ERROR_CODE, METHOD, SCHEME
from .interface import Interface
from .io import InputStream, OutputStream, Pollable

_WRITTEN_BY_THE_HOST = ("content-length", "host", "connection", "transfer-encoding", "keep-alive", "te")
_MILLISECOND = 10**6
_REASONS: dict[str, Any] = {
    "permission": "HTTP-request-denied",
    "invalid": "HTTP-request-URI-invalid",
    "limit": {"HTTP-response-body-size": None},
    "unavailable": "destination-unavailable",
    "timeout": "connection-timeout",
}
_NOTHING = "err"  # a result without a value on its other side


class Body:
    """What a component writes as the body of a message.

    Attributes:
        data: What was written.
        finished: Whether that is all.
        taken: Whether the component has it, and its stream.
    """

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.finished = True
        self.taken = self._streams = False
        self._most = most

    def take(self) -> dict[str, Any]:
        """Give it to the component, once."""
        if self.taken:
            return {_NOTHING: None}
        self.taken, self.finished = True, False
        return {"ok": self}

    def stream(self) -> dict[str, Any]:
        """Where the component writes, once."""
        if self._streams:
            return {_NOTHING: None}
        self._streams = True
        return {"ok": OutputStream(self._write)}

    def _write(self, data: bytes) -> int:
        if len(self.data) + len(data) > self._most:
            raise LimitReached("output", "the component writes too large a body")
        self.data += data
        return len(data)

    def finish(self, _trailers: Fields | None) -> dict[str, Any]:
        """That was all; trailers are not sent."""
        self.finished = True
        return {"ok": None}


class Outgoing:
    """A request or a response that a component makes."""

    def __init__(self, headers: Fields, most: int) -> None:
        headers.immutable = True
        self.headers, self.body = headers, Body(most)
        self.parts: dict[str, Any] = {
            "method": "get",
            "path-with-query": None,
            "scheme": None,
            "authority": None,
        }
        self.status = 200

    def set(self, name: str, value: Any) -> dict[str, Any]:
        """Set a part of a request."""
        self.parts[name] = value
        return {"ok": None}

    def set_status(self, status: int) -> dict[str, Any]:
        """Set the status of a response."""
        if not 100 <= status < 600:
            return {_NOTHING: None}
        self.status = status
        return {"ok": None}


class Incoming:
    """A request or a response that a component gets."""

    def __init__(self, headers: list[tuple[str, bytes]], data: bytes, parts: dict[str, Any]) -> None:
        self.headers = Fields(headers)
        self.headers.immutable = True
        self.parts = parts
        self._data, self._given, self._streams = memoryview(data), False, False

    def consume(self) -> dict[str, Any]:
        """Its body, once."""
        if self._given:
            return {_NOTHING: None}
        self._given = True
        return {"ok": self}

    def stream(self) -> dict[str, Any]:
        """Where the component reads, once."""
        if self._streams:
            return {_NOTHING: None}
        self._streams = True
        return {"ok": InputStream(self._read)}

    def _read(self, size: int) -> bytes:
        part, self._data = self._data[:size], self._data[size:]
        return bytes(part)


class Future:
    """The answer to a request, or what went wrong; ``None`` as long as there is none."""

    def __init__(self, send: Callable[[], dict[str, Any] | None]) -> None:
        self._send = send
        self._answer: dict[str, Any] | None = None
        self._taken = False

    def left(self) -> int | None:
        """As of a pollable: nothing to wait for once the request is complete."""
        if self._answer is None:
            self._answer = self._send()
        return None if self._answer is None else 0

    def get(self) -> dict[str, Any] | None:
        """The answer, once."""
        if self.left() is None:
            return None
        if self._taken:
            return {_NOTHING: None}
        self._taken = True
        return {"ok": self._answer}


class Outparam:
    """Where a handler puts its response.

    Attributes:
        response: What it put there.
    """

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None


class Options:
    """How long a request may take, in nanoseconds."""

    def __init__(self) -> None:
        self.timeouts: dict[str, int | None] = {}

    def set(self, name: str, value: int | None) -> dict[str, Any]:
        """Set one of the timeouts."""
        self.timeouts[name] = value
        return {"ok": None}


class Sender:
    """Sends requests by way of the host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def handle(self, request: Outgoing, options: Options | None) -> dict[str, Any]:
        """Begin a request."""
        scheme, authority = request.parts["scheme"] or "HTTPS", request.parts["authority"]
        if not isinstance(scheme, str) or not authority:
            return {"err": "HTTP-request-URI-invalid"}
        method = request.parts["method"]
        question: dict[str, Any] = {
            "url": f"{scheme.lower()}://{authority}{request.parts['path-with-query'] or '/'}",
            "method": method["other"] if isinstance(method, dict) else method.upper(),
            "headers": request.headers.joined(_WRITTEN_BY_THE_HOST),
        }
        times = [time for time in (options.timeouts if options else {}).values() if time is not None]
        if times:
            question["timeout_ms"] = max(sum(times) // _MILLISECOND, 1)
        return {"ok": Future(lambda: self._send(question, request.body))}

    def _send(self, question: dict[str, Any], body: Body) -> dict[str, Any] | None:
        if not body.finished:
            return None
        question["body"] = bytes(body.data) or None
        try:
            answer: Any = self._host.ask("http", question)
        except HostRefused as refusal:
            return {"err": _REASONS.get(refusal.reason) or {"internal-error": refusal.message}}
        headers = [
            (name, text.encode("latin-1"))
            for name, texts in answer["headers"].items()
            for text in (texts if isinstance(texts, list) else [texts])
        ]
        return {"ok": Incoming(headers, answer["body"], {"status": answer["status"]})}


def request(given: Any) -> Incoming:
    """A caller's request for a handler: ``{"url", "method", "headers", "body"}``, of which only url must be.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(given, dict) or not isinstance(given.get("url"), str):
        raise TypeError("a request is a dict with a url")
    scheme, found, rest = given["url"].partition("://")
    if not found:
        scheme, rest = "http", "localhost" + given["url"]
    authority, slash, path = rest.partition("/")
    method, headers = given.get("method") or "GET", given.get("headers") or {}
    body = given.get("body") or b""
    if not isinstance(method, str) or not isinstance(headers, dict) or not isinstance(body, bytes):
        raise TypeError("a request has a str as method, a dict of str as headers, and bytes as body")
    word = method.lower()
    known = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")
    parts = {
        "method": word if word in known else {"other": method},
        "path-with-query": f"{slash or '/'}{path}",
        "scheme": scheme.upper() if scheme.lower() in ("http", "https") else {"other": scheme},
        "authority": authority,
    }
    return Incoming([(str(name), str(text).encode()) for name, text in headers.items()], body, parts)


def response(outparam: Outparam) -> dict[str, Any]:
    """What a handler answered: ``{"status", "headers", "body"}``.

    Raises:
        PluginRaised: Nothing, or that it failed.
    """
    answer = outparam.response
    if answer is None:
        raise PluginRaised("the handler returned without a response")
    if "err" in answer:
        raise PluginRaised(f"the handler answered with the error {answer['err']!r}")
    found: Outgoing = answer["ok"]
    return {"status": found.status, "headers": found.headers.joined(()), "body": bytes(found.body.data)}


def interfaces(host: Host, most: int) -> dict[str, Interface]:
    """What is offered.

    Args:
        host: Sends the requests.
        most: Bytes that a body may have.
    """
    functions: dict[str, tuple[str, Callable[..., Any]]] = {
        **FIELDS,
        "http-error-code": (f"func(err: borrow<error>) -> option<{ERROR_CODE}>", lambda _error: None),
        "[constructor]outgoing-request": (
            "func(headers: own<fields>) -> own<outgoing-request>",
            lambda headers: Outgoing(headers, most),
        ),
        "[constructor]outgoing-response": (
            "func(headers: own<fields>) -> own<outgoing-response>",
            lambda headers: Outgoing(headers, most),
        ),
        "[constructor]request-options": ("func() -> own<request-options>", Options),
        "[static]response-outparam.set": (
            f"func(param: own<response-outparam>, response: result<own<outgoing-response>, {ERROR_CODE}>)",
            lambda outparam, answer: setattr(outparam, "response", answer),
        ),
        "[static]incoming-body.finish": (
            "func(this: own<incoming-body>) -> own<future-trailers>",
            lambda _body: Future(lambda: {"ok": None}),
        ),
        "[static]outgoing-body.finish": (
            f"func(this: own<outgoing-body>, trailers: option<own<fields>>) -> result<_, {ERROR_CODE}>",
            Body.finish,
        ),
    }
    for kind, name, further, result, run in _METHODS:
        returned = f" -> {result}" if result else ""
        functions[f"[method]{kind}.{name}"] = (f"func(self: borrow<{kind}>{further}){returned}", run)
    result = f"result<own<future-incoming-response>, {ERROR_CODE}>"
    return {
        "wasi:http/types": Interface(functions, dict.fromkeys(_RESOURCES)),
        "wasi:http/outgoing-handler": Interface(
            {
                "handle": (
                    "func(request: own<outgoing-request>, options: option<own<request-options>>) -> "
                    + result,
                    Sender(host).handle,
                )
            }
        ),
    }


def _part(name: str) -> Callable[[Any], Any]:
    return lambda message: message.parts[name]


def _setter(name: str) -> Callable[[Any, Any], Any]:
    return lambda message, value: message.set(name, value)


def _timeout(name: str) -> Callable[[Options], int | None]:
    return lambda options: options.timeouts.get(name)


def _headers(message: Any) -> Fields:
    found: Fields = message.headers
    return found


def _subscribe(future: Future) -> Pollable:
    return Pollable(future.left)


def _no_news(_outparam: Outparam, _status: int, _headers: Fields) -> dict[str, Any]:
    return {"err": {"internal-error": "informational responses are not sent"}}


_RESOURCES = (
    *("fields", "incoming-request", "outgoing-request", "request-options", "response-outparam"),
    *("incoming-response", "incoming-body", "future-trailers", "outgoing-response", "outgoing-body"),
    "future-incoming-response",
)
_DONE = "result<_, _>"
_TIME = "option<u64>"
_PARTS = (
    ("method", METHOD),
    ("path-with-query", "option<string>"),
    ("scheme", f"option<{SCHEME}>"),
    ("authority", "option<string>"),
)
_TIMEOUTS = ("connect-timeout", "first-byte-timeout", "between-bytes-timeout")
# Resource, method, further parameters, result, what it does.
_METHODS: list[tuple[str, str, str, str, Callable[..., Any]]] = [
    *(
        (kind, name, "", of, _part(name))
        for kind in ("incoming-request", "outgoing-request")
        for name, of in _PARTS
    ),
    *(("outgoing-request", f"set-{name}", f", {name}: {of}", _DONE, _setter(name)) for name, of in _PARTS),
    *(
        (kind, "headers", "", "own<fields>", _headers)
        for kind in ("incoming-request", "outgoing-request", "incoming-response", "outgoing-response")
    ),
    *(
        (kind, "consume", "", "result<own<incoming-body>, _>", Incoming.consume)
        for kind in ("incoming-request", "incoming-response")
    ),
    *(
        (kind, "body", "", "result<own<outgoing-body>, _>", lambda message: message.body.take())
        for kind in ("outgoing-request", "outgoing-response")
    ),
    ("incoming-response", "status", "", "u16", _part("status")),
    ("incoming-body", "stream", "", "result<own<input-stream>, _>", Incoming.stream),
    ("outgoing-body", "write", "", "result<own<output-stream>, _>", Body.stream),
    ("outgoing-response", "status-code", "", "u16", lambda answer: answer.status),
    ("outgoing-response", "set-status-code", ", status-code: u16", _DONE, Outgoing.set_status),
    *(("request-options", name, "", _TIME, _timeout(name)) for name in _TIMEOUTS),
    *(("request-options", f"set-{name}", f", duration: {_TIME}", _DONE, _setter(name)) for name in _TIMEOUTS),
    (
        *("response-outparam", "send-informational", ", status: u16, headers: own<fields>"),
        *(f"result<_, {ERROR_CODE}>", _no_news),
    ),
    *(
        (kind, "subscribe", "", "own<pollable>", _subscribe)
        for kind in ("future-trailers", "future-incoming-response")
    ),
    (
        *("future-trailers", "get", ""),
        *(f"option<result<result<option<own<fields>>, {ERROR_CODE}>, _>>", Future.get),
    ),
    (
        *("future-incoming-response", "get", ""),
        *(f"option<result<result<own<incoming-response>, {ERROR_CODE}>, _>>", Future.get),
    ),
]
