"""wasi:filesystem: the plugin's own files, and the folders that its policy grants.

What they are made of, and what keeps a program inside of them, is that of preview 1 (``wasm_tree`` and
``wasm_granted``).
"""

import time
from collections.abc import Callable
from typing import Any

from ..wasm_entry import (
    BADF,
    CREATE,
    DIRECTORY,
    DSYNC,
    EXCLUSIVE,
    FDSTAT,
    FILESTAT,
    FOLDER_ONLY,
    ILSEQ,
    INVAL,
    ISDIR,
    LINK,
    REGULAR,
    RIGHT_READ,
    RIGHT_WRITE,
    SYNC,
    TRUNCATE,
    UNKNOWN,
    Entry,
    Times,
    WasiError,
)
from ..wasm_files import FIRST
from ..wasm_program import Program
from .cli import datetime
from .errors import ERROR_CODE, word
from .interface import Interface
from .io import AT_ONCE, Answer, Error, InputStream, OutputStream

_MAX_PATH = 4096
_RIGHT_MAKE = 1 << 9
_KINDS = {UNKNOWN: "unknown", DIRECTORY: "directory", REGULAR: "regular-file", LINK: "symbolic-link"}
_OPEN = {"create": CREATE, "directory": FOLDER_ONLY, "exclusive": EXCLUSIVE, "truncate": TRUNCATE}
_SYNCED = {"file-integrity-sync": SYNC, "data-integrity-sync": DSYNC}
_SECOND = 10**9
_WORD = (1 << 64) - 1


class _Opened:
    """A file or folder that descriptors and streams share; closed with the last of them."""

    def __init__(self, program: Program, entry: Entry, number: int | None) -> None:
        self.entry = entry
        self._program, self._number, self._users = program, number, 0

    def use(self) -> None:
        """One more needs it."""
        self._users += 1

    def close(self) -> None:
        """One less needs it."""
        self._users -= 1
        if self._users == 0 and self._number is not None:
            found = self._program.files.opened.pop(self._number, None)
            if found is not None:
                found.close()


class Descriptor:
    """What a component has open."""

    def __init__(self, opened: _Opened, flags: list[str]) -> None:
        self.opened, self.flags = opened, flags
        self.program = opened._program
        opened.use()

    @property
    def entry(self) -> Entry:
        """The file or folder."""
        return self.opened.entry


class _Listing:
    def __init__(self, entries: list[tuple[bytes, int, int]]) -> None:
        self.rest = iter([(name, kind) for name, _, kind in entries if name not in (b".", b"..")])


def interfaces(now: Callable[[], Program]) -> dict[str, Interface]:
    """What is offered to a program; ``now`` tells which one runs."""

    def directories() -> list[list[Any]]:
        program = now()
        found = []
        for index, (name, entry) in enumerate(program.preopens):
            if program.files.opened.get(FIRST + index) is entry:
                found.append([Descriptor(_Opened(program, entry, None), _flags_of(entry)), name.decode()])
        return found

    return {
        "wasi:filesystem/preopens": Interface(
            {"get-directories": ("func() -> list<tuple<own<descriptor>, string>>", directories)}
        ),
        "wasi:filesystem/types": Interface(
            {
                **{
                    f"[method]descriptor.{name}": (
                        f"func(self: borrow<descriptor>{parameters}) -> result<{ok}, {ERROR_CODE}>",
                        _answering(run),
                    )
                    for name, (parameters, ok, run) in _METHODS.items()
                },
                "[method]descriptor.is-same-object": (
                    "func(self: borrow<descriptor>, other: borrow<descriptor>) -> bool",
                    lambda one, other: _identity(one) is not None and _identity(one) == _identity(other),
                ),
                "[method]directory-entry-stream.read-directory-entry": (
                    f"func(self: borrow<directory-entry-stream>) -> result<option<{_ENTRY}>, {ERROR_CODE}>",
                    _answering(_next),
                ),
                "filesystem-error-code": (
                    f"func(err: borrow<error>) -> option<{ERROR_CODE}>",
                    _code,
                ),
            },
            {"descriptor": lambda one: one.opened.close(), "directory-entry-stream": None},
        ),
    }


def _answering(run: Callable[..., Any]) -> Callable[..., Answer]:
    def answer(*arguments: Any) -> Answer:
        try:
            return {"ok": run(*arguments)}
        except (OSError, WasiError) as error:
            return {"err": word(error)}

    return answer


def _flags_of(entry: Entry) -> list[str]:
    writable = FDSTAT.unpack(entry.fdstat())[2] & _RIGHT_MAKE
    return ["read", "mutate-directory"] if writable else ["read"]


def _path(text: str) -> bytes:
    path = text.encode()
    if len(path) > _MAX_PATH or b"\0" in path:
        raise WasiError(INVAL)
    return path


def _follows(flags: list[str]) -> bool:
    return "symlink-follow" in flags


def _read_stream(one: Descriptor, offset: int) -> InputStream:
    entry, at = _readable(one), [offset]

    def read(size: int) -> bytes:
        data = bytes(entry.read(size, at[0]))
        at[0] += len(data)
        return data

    one.opened.use()
    return InputStream(read, one.opened.close)


def _write_stream(one: Descriptor, offset: int) -> OutputStream:
    entry, at = _writable(one), [offset]

    def write(data: bytes) -> int:
        taken = entry.write(data, at[0])
        at[0] += taken
        return taken

    one.opened.use()
    return OutputStream(write, one.opened.close)


def _append_stream(one: Descriptor) -> OutputStream:
    entry = _writable(one)
    one.opened.use()
    return OutputStream(
        lambda data: entry.write(data, FILESTAT.unpack(entry.attributes())[4]), one.opened.close
    )


def _readable(one: Descriptor) -> Entry:
    if one.entry.kind == DIRECTORY:
        raise WasiError(ISDIR)
    if "read" not in one.flags:
        raise WasiError(BADF)
    return one.entry


def _writable(one: Descriptor) -> Entry:
    if one.entry.kind == DIRECTORY:
        raise WasiError(ISDIR)
    if "write" not in one.flags:
        raise WasiError(BADF)
    return one.entry


def _read(one: Descriptor, size: int, offset: int) -> list[Any]:
    data = bytes(_readable(one).read(min(size, AT_ONCE), offset))
    return [data, bool(size) and not data]


def _open(one: Descriptor, follow: list[str], path: str, how: list[str], flags: list[str]) -> Descriptor:
    rights = sum({"read": RIGHT_READ, "write": RIGHT_WRITE}.get(flag, 0) for flag in flags) or RIGHT_READ
    entry = one.entry.open_at(
        _path(path),
        _follows(follow),
        sum(_OPEN[flag] for flag in how),
        rights,
        sum(_SYNCED.get(flag, 0) for flag in flags),
    )
    number = one.program.files.add(entry)
    kept = [flag for flag in flags if flag in ("read", "write", *_SYNCED)] or ["read"]
    return Descriptor(
        _Opened(one.program, entry, number), _flags_of(entry) if entry.kind == DIRECTORY else kept
    )


def _stat(attributes: bytes) -> dict[str, Any]:
    _, _, kind, links, size, *moments = FILESTAT.unpack(attributes)
    times = [datetime(moment) if moment else None for moment in moments]
    return {
        "type": _KINDS.get(kind, "unknown"),
        "link-count": links,
        "size": size,
        "data-access-timestamp": times[0],
        "data-modification-timestamp": times[1],
        "status-change-timestamp": times[2],
    }


def _times(access: Any, change: Any) -> Times:
    now = time.time_ns()
    return _moment(access, now), _moment(change, now)


def _moment(given: Any, now: int) -> int | None:
    if isinstance(given, str):
        return now if given == "now" else None
    moment: int = given["timestamp"]["seconds"] * _SECOND + given["timestamp"]["nanoseconds"]
    if moment >> 63:
        raise WasiError(INVAL)
    return moment


def _hash(attributes: bytes) -> dict[str, int]:
    device, inode, *_ = FILESTAT.unpack(attributes)
    return {"lower": inode & _WORD, "upper": device & _WORD}


def _identity(one: Descriptor) -> tuple[int, int] | None:
    try:
        device, inode, *_ = FILESTAT.unpack(one.entry.attributes())
    except (OSError, WasiError):
        return None
    return device, inode


def _next(listing: _Listing) -> dict[str, str] | None:
    found = next(listing.rest, None)
    if found is None:
        return None
    try:
        return {"type": _KINDS.get(found[1], "unknown"), "name": found[0].decode()}
    except UnicodeDecodeError:
        raise WasiError(ILSEQ) from None


def _code(error: Error) -> str | None:
    return error.code


def _link(one: Descriptor, *_arguments: Any) -> None:
    one.entry.refuse_link()


_DATETIME = "record {seconds: u64, nanoseconds: u32}"
_MOMENT = f"variant {{no-change, now, timestamp: {_DATETIME}}}"
_BOTH = f"data-access-timestamp: {_MOMENT}, data-modification-timestamp: {_MOMENT}"
_KIND = "enum {unknown, block-device, character-device, directory, fifo, symbolic-link, regular-file, socket}"
_STAT = (
    f"record {{type: {_KIND}, link-count: u64, size: u64, data-access-timestamp: option<{_DATETIME}>, "
    f"data-modification-timestamp: option<{_DATETIME}>, status-change-timestamp: option<{_DATETIME}>}}"
)
_ENTRY = f"record {{type: {_KIND}, name: string}}"
_FLAGS = (
    "flags {read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory}"
)
_AT = "path-flags: flags {symlink-follow}, path: string"
_LINKED = (
    "old-path-flags: flags {symlink-follow}, old-path: string, new-descriptor: borrow<descriptor>, "
    "new-path: string"
)
_HASH = "record {lower: u64, upper: u64}"
_ADVICE = "enum {normal, sequential, random, will-need, dont-need, no-reuse}"

# Name: further parameters, what is in ok, and what it does.
_METHODS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "read-via-stream": (", offset: u64", "own<input-stream>", _read_stream),
    "write-via-stream": (", offset: u64", "own<output-stream>", _write_stream),
    "append-via-stream": ("", "own<output-stream>", _append_stream),
    "advise": (f", offset: u64, length: u64, advice: {_ADVICE}", "_", lambda *_: None),
    "sync-data": ("", "_", lambda one: one.entry.sync()),
    "get-flags": ("", _FLAGS, lambda one: one.flags),
    "get-type": ("", _KIND, lambda one: _KINDS.get(one.entry.kind, "unknown")),
    "set-size": (", size: u64", "_", lambda one, size: _writable(one).resize(size)),
    "set-times": (
        f", {_BOTH}",
        "_",
        lambda one, access, change: one.entry.set_times(_times(access, change)),
    ),
    "read": (", length: u64, offset: u64", "tuple<list<u8>, bool>", _read),
    "write": (
        ", buffer: list<u8>, offset: u64",
        "u64",
        lambda one, data, offset: _writable(one).write(data, offset),
    ),
    "read-directory": (
        "",
        "own<directory-entry-stream>",
        lambda one: _Listing(one.entry.entries(True)),
    ),
    "sync": ("", "_", lambda one: one.entry.sync()),
    "create-directory-at": (
        ", path: string",
        "_",
        lambda one, path: one.entry.make_folder_at(_path(path)),
    ),
    "stat": ("", _STAT, lambda one: _stat(one.entry.attributes())),
    "stat-at": (
        f", {_AT}",
        _STAT,
        lambda one, flags, path: _stat(one.entry.attributes_at(_path(path), _follows(flags))),
    ),
    "set-times-at": (
        f", {_AT}, {_BOTH}",
        "_",
        lambda one, flags, path, access, change: one.entry.set_times_at(
            _path(path), _follows(flags), _times(access, change)
        ),
    ),
    "link-at": (
        f", {_LINKED}",
        "_",
        _link,
    ),
    "open-at": (
        f", {_AT}, open-flags: flags {{create, directory, exclusive, truncate}}, flags: {_FLAGS}",
        "own<descriptor>",
        _open,
    ),
    "readlink-at": (
        ", path: string",
        "string",
        lambda one, path: one.entry.link_at(_path(path)).decode("utf-8", "replace"),
    ),
    "remove-directory-at": (
        ", path: string",
        "_",
        lambda one, path: one.entry.remove_folder_at(_path(path)),
    ),
    "rename-at": (
        ", old-path: string, new-descriptor: borrow<descriptor>, new-path: string",
        "_",
        lambda one, path, other, new: one.entry.rename_at(_path(path), other.entry, _path(new)),
    ),
    "symlink-at": (", old-path: string, new-path: string", "_", _link),
    "unlink-file-at": (
        ", path: string",
        "_",
        lambda one, path: one.entry.remove_file_at(_path(path)),
    ),
    "metadata-hash": ("", _HASH, lambda one: _hash(one.entry.attributes())),
    "metadata-hash-at": (
        f", {_AT}",
        _HASH,
        lambda one, flags, path: _hash(one.entry.attributes_at(_path(path), _follows(flags))),
    ),
}
