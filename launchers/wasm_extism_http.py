"""HTTP for Extism plugins, by way of their host: requests and headers are JSON text."""

import _json
from typing import Any

from .failures import HostRefused, PluginRaised
from .host import Host
from .json_text import decode

_KEYS = {"url", "method", "headers"}


class Http:
    """What one instance of a plugin asked for and got.

    Args:
        host: Sends the requests, if it grants them.
        hosts: Patterns of the hosts that the plugin's own manifest names; ``None`` where it has none.
        max_response: Bytes of a response.

    Attributes:
        status: Of the last response; 0 before the first.
    """

    def __init__(self, host: Host, hosts: list[str] | None, max_response: int) -> None:
        self._host, self._hosts, self._max_response = host, hosts, max_response
        self.status = 0
        self._headers: dict[str, str] = {}

    def request(self, text: bytes, body: bytes | None) -> bytes:
        """Send a request ``{"url": ..., "method": ..., "headers": {...}}``; returns the response's body.

        Raises:
            PluginRaised: It is no request, the host refuses, or the response is too large.
        """
        self.status, self._headers = 0, {}
        url, method, headers = _parse(text)
        if self._hosts is not None and not _names(self._hosts, url):
            raise PluginRaised(
                f"the HTTP request to {url} is not allowed by the allowed_hosts of the plugin's manifest"
            )
        try:
            answer: Any = self._host.ask(
                "http", {"method": method, "url": url, "headers": headers, "body": body}
            )
        except HostRefused as refusal:
            raise PluginRaised(f"the HTTP request to {url} failed: {refusal.message}") from None
        content: bytes = answer["body"]
        if len(content) > self._max_response:
            raise PluginRaised(
                f"the HTTP response has {len(content)} bytes, and the plugin takes {self._max_response}"
            )
        self.status, self._headers = answer["status"], answer["headers"]
        return content

    def headers(self) -> bytes:
        """The headers of the last response as JSON; empty when there are none."""
        quote = _json.encode_basestring_ascii
        members = ",".join(f"{quote(name)}:{quote(value)}" for name, value in self._headers.items())
        return f"{{{members}}}".encode() if members else b""


def _parse(text: bytes) -> tuple[str, str, Any]:
    try:
        request = decode(text.decode())
    except ValueError as error:
        reason = "is not JSON" if isinstance(error, UnicodeDecodeError) else error
        raise PluginRaised(f"the plugin's HTTP request {reason}") from None
    if not isinstance(request, dict) or not isinstance(request.get("url"), str):
        raise PluginRaised("the plugin's HTTP request has no url")
    unknown = request.keys() - _KEYS
    if unknown:
        raise PluginRaised(f"the plugin's HTTP request has the unknown key {min(unknown)!r}")
    method, headers = request.get("method") or "GET", request.get("headers", {})
    if not isinstance(method, str) or not isinstance(headers, dict):
        raise PluginRaised("the method of an HTTP request is a string, and its headers are an object")
    if not all(isinstance(value, str) for value in headers.values()):
        raise PluginRaised("the headers of an HTTP request are strings")
    return request["url"], method.upper(), headers


def _names(patterns: list[str], url: str) -> bool:
    """Whether a manifest names the host of a URL; what is granted at all, the host decides."""
    host = url.partition("://")[2]
    for end in "/?#":
        host = host.partition(end)[0]
    host = host.rpartition("@")[2]
    if not host.endswith("]"):
        host = host.rpartition(":")[0] or host
    return any(_matches(pattern.lower(), host.lower()) for pattern in patterns)


def _matches(pattern: str, text: str) -> bool:
    """A pattern of ``*`` for anything and ``?`` for one character, in time that both lengths bound."""
    reached = {0}  # how many characters of the text the pattern so far can have used up
    for letter in pattern:
        if letter == "*":
            reached = set(range(min(reached, default=len(text) + 1), len(text) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(text) and letter in ("?", text[at])}
    return len(text) in reached
