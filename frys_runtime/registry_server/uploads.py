"""A published package on its way in: multipart/form-data (RFC 7578) that goes to the disk while it comes."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from .http import Refusal, in_thread
from .settings import Settings
from .types import BESIDE

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Bytes a second that a sender has to manage in the long run: the slower ones only hold a place.
_SLOWEST: Final = 16 << 10
_OVERHEAD: Final = 64 << 10


class Upload:
    """What came with one request; the file is deleted unless it was taken.

    Attributes:
        path: The package.
        digest: Its SHA-256.
        size: Its bytes.
        beside: What came with it, by the names of :data:`~frys_runtime.registry_server.types.BESIDE`.
    """

    def __init__(self, folder: Path, max_package: int) -> None:
        self.path = folder / secrets.token_hex(16)
        self.size = 0
        self.beside: dict[str, bytes] = {}
        self._max = max_package
        self._hash = hashlib.sha256()
        self._file = open(self.path, "xb", opener=_private)  # noqa: SIM115 - closed by finish() and discard()
        self._name = self._header = b""
        self._disposition = b""
        self._seen: set[str] = set()
        self._part, self._complete = "", False

    @property
    def digest(self) -> str:
        """The SHA-256 of what came until now."""
        return self._hash.hexdigest()

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls for each piece of the body."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._name = self._header = self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        if len(self._name) + len(self._header) > 4096:
            raise Refusal(431, "a part of the form has headers of more than 4096 bytes")

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._header
        self._name = self._header = b""

    def _end_headers(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part not in ("package", *BESIDE) or self._part in self._seen:
            raise Refusal(
                400, 'the form must have the part "package", and may have "signature" and "bundle", each once'
            )
        self._seen.add(self._part)

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if beside := BESIDE.get(self._part):
            self.beside[self._part] = self.beside.get(self._part, b"") + piece
            if len(self.beside[self._part]) > beside.most:
                raise Refusal(413, f"the {self._part} has more than {beside.most} bytes")
            return
        self.size += len(piece)
        if self.size > self._max:
            raise Refusal(413, f"the package has more than {self._max} bytes, which is this registry's limit")
        self._file.write(piece)
        self._hash.update(piece)

    def _end(self) -> None:
        self._complete = True

    def finish(self) -> None:
        """Check that all is there, and take it to the disk.

        Raises:
            Refusal: It ended too early, or there is no package.
        """
        if not self._complete:
            raise Refusal(400, "the form ends too early; send it again")
        if "package" not in self._seen:
            raise Refusal(400, 'the form has no part "package" with the bytes of a package')
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Delete the file, if it is still here."""
        with contextlib.suppress(OSError):  # its last bytes found no room; they are not wanted any more
            self._file.close()
        self.path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


async def receive(request: Request, folder: Path, settings: Settings) -> Upload:
    """Take the body of a publishing request.

    Raises:
        Refusal: It is none, too large or too slow, or the disk is full; nothing is left then.
    """
    max_package = settings.max_package
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise Refusal(415, "a package is published as multipart/form-data; see the registry's documentation")
    most = max_package + sum(one.most for one in BESIDE.values()) + _OVERHEAD
    if int(request.headers.get("content-length", "0")) > most:
        raise Refusal(413, f"the package has more than {max_package} bytes, which is this registry's limit")
    upload = await in_thread(lambda: Upload(folder, max_package))
    try:
        parser = MultipartParser(boundary, upload.callbacks(), max_size=most + 1)
        await _feed(request, parser, most, settings.transfer_timeout)
        await in_thread(lambda: _finish(parser, upload))
    except FormParserError:
        upload.discard()
        raise Refusal(400, "the body is no multipart/form-data, or ends too early") from None
    except BaseException:
        upload.discard()
        raise
    return upload


def _finish(parser: MultipartParser, upload: Upload) -> None:
    parser.finalize()
    upload.finish()


async def _feed(request: Request, parser: MultipartParser, most: int, patience: float) -> None:
    began, total = time.monotonic(), 0
    stream = aiter(request.stream())
    try:
        while True:
            left = began + patience + total / _SLOWEST - time.monotonic()
            async with asyncio.timeout(max(0.0, left)):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            total += len(chunk)
            if total > most:
                raise Refusal(413, f"the request has more than {most} bytes")
            await in_thread(lambda chunk=chunk: parser.write(chunk))  # type: ignore[misc]
    except TimeoutError:
        raise Refusal(408, "the package came too slowly; try again", {"connection": "close"}) from None
