"""Python plugins: in a subinterpreter with its own GIL, or in the main interpreter.

``"interpreter": "own"`` is the default: an interpreter in which nothing of Frys is imported but the
serving loop. ``"main"`` is for extension modules that do not support subinterpreters, and takes a little
less memory. Neither is a boundary, the jail is: code in a subinterpreter reaches all memory of its process.

The subinterpreter is made in the fork server, warm and immortal, and every child has its copy
(docs/adr/0005-what-children-share.md). It survives the C library's fork(2), which copies a single-threaded
process as it is, but not ``os.fork()``: those hooks delete all but the main interpreter, and CPython 3.13
aborts over that, 3.14 crashes (https://github.com/python/cpython/issues/139759). So a plugin that may fork
takes the main interpreter, whose plugins come from a fork server without a subinterpreter.

All plugins of one fork server share Python's hash seed, which nothing can change after the start.
"""

import _interpreters
import contextlib
import importlib
import mmap
import os
import random
import sys
from typing import Any

from frys_runtime.linux import libc

from . import interrupt, python_library
from .artifact import Artifact
from .codec import pack, unpack
from .failures import BadArtifact, Failure
from .python_collect import collect, compiled
from .python_inside import warm
from .python_plugin import Program

NEEDS_FILES = True

# Imported ahead in both interpreters: their memory is shared by all children.
_COMMON = (
    *("_strptime", "array", "base64", "binascii", "bisect", "calendar", "cmath", "collections", "contextlib"),
    *(
        "copy",
        "csv",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
    ),
    *("hmac", "html", "io", "itertools", "json", "math", "operator", "random", "re", "secrets", "select"),
    *("statistics", "string", "struct", "textwrap", "time", "types", "typing", "unicodedata", "urllib.parse"),
    *("uuid", "zlib"),
)
# Extension modules that are opened ahead, which makes them importable later without a file. Some machines
# lack one or the other.
_OPENED = (
    *("_bz2", "_codecs_cn", "_codecs_hk", "_codecs_jp", "_codecs_kr", "_codecs_tw", "_contextvars"),
    *(
        "_elementtree",
        "_lzma",
        "_multibytecodec",
        "_pickle",
        "_posixsubprocess",
        "_queue",
        "_sqlite3",
        "_ssl",
    ),
    *("_uuid", "pyexpat"),
)
# What extension modules of the package index may link against (PEP 600, without its libraries for screens)
# and would not find: a plugin sees no folder of libraries. The dynamic linker takes what is loaded already.
_LIBRARIES = (
    *("libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1"),
    *("libstdc++.so.6", "libutil.so.1", "libz.so.1"),
)
# What a subinterpreter gets of ours; it sees none of our files.
_INSIDE = (
    *("artifact", "bulk", "codec", "failures", "host", "interrupt", "serve", "values"),
    *("python_frys", "python_given", "python_inside", "python_loop", "python_missing", "python_modules"),
    *("python_packages", "python_plugin", "python_sources", "python_traceback"),
)
_IMMORTALISE = "frys_runtime.linux.cpython"
# Room for what the subinterpreter reports of a load; a page that is not written costs nothing.
_REPORT_SIZE = 1 << 20

_BOOT = f"""
import builtins, marshal, sys
space = {{"__name__": "{python_library.__name__}", "__builtins__": dict(vars(builtins))}}
exec(marshal.loads(code), space)
sys.meta_path.insert(2, space["Library"](index, blob, root))
del space, code, index, blob, root
from {__package__}.python_inside import load, serve_lane, warm
"""
_SHARE = f"""
from {_IMMORTALISE} import immortalise
import gc
immortalise()
gc.freeze()
"""


class _Shared:
    """What the fork server prepares once and all children find in their memory."""

    library: python_library.Library
    library_code: bytes
    interpreter: int | None = None


def prepare() -> None:
    """Import what plugins commonly import, and run a plugin, so that its path is warm and shared."""
    for name in _COMMON:
        importlib.import_module(name)
    for name in _OPENED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in _LIBRARIES:
        with contextlib.suppress(OSError):
            libc.keep_library(name)
    _Shared.library = collect([_IMMORTALISE, *(f"{__package__}.{name}" for name in _INSIDE)])
    _Shared.library_code = compiled(python_library.__name__)
    sys.meta_path.insert(2, _Shared.library)
    interrupt.listen()
    warm([])


def share() -> None:
    """Make the subinterpreter in the fork server; from here on only fork(2) of the C library may be used.

    The last step: what the main interpreter imports later is not shared with the subinterpreter.
    """
    _Shared.interpreter = _make_interpreter()
    _run(_Shared.interpreter, "warm(modules.split())", {"modules": " ".join(_COMMON)})
    _run(_Shared.interpreter, _SHARE, {})


def engine_paths() -> list[str]:
    """Name the folders that a child must see while it loads: the standard library's."""
    folders = {os.path.dirname(os.path.realpath(module.__file__ or "")) for module in (os, _interpreters)}
    return sorted(folders)


def load(artifact: Artifact) -> "Program | Inside":
    """Import the plugin into the interpreter that its options ask for.

    Raises:
        BadArtifact: It is not Python, imports what is not there, offers no function, or has wrong options.
        PluginRaised: Its own code failed while it was imported.
        LimitReached: It ran out of memory.
    """
    _check_options(artifact)
    if artifact.options.get("interpreter", "own") == "own":
        if _Shared.interpreter is None:
            raise RuntimeError("the fork server made no subinterpreter")
        return Inside(_Shared.interpreter, artifact)
    random.seed()  # the fork copied its state
    return Program(artifact)


def _check_options(artifact: Artifact) -> None:
    unknown = artifact.options.keys() - {"interpreter", "paths"}
    choice = artifact.options.get("interpreter", "own")
    if unknown or choice not in ("own", "main"):
        wrong = f"key {min(unknown)!r}" if unknown else f"interpreter {choice!r}"
        raise BadArtifact(
            f'"python" in plugin.json has an unknown {wrong}; "interpreter" is "own" or "main", '
            'and "paths" names folders with packages'
        )
    paths = artifact.options.get("paths", [])
    if not isinstance(paths, list):
        raise BadArtifact('"paths" under "python" in plugin.json must be a list of folders, like ["vendor"]')
    for path in paths:
        if not isinstance(path, str) or not any(name.startswith(f"{path}/") for name in artifact.files):
            raise BadArtifact(
                f'"paths" under "python" in plugin.json names {path!r}, which is no folder of the plugin '
                "with a file in it; write it like vendor or lib/vendor"
            )


class Inside:
    """A plugin in a subinterpreter, as the main interpreter sees it: loaded, and then served to the end.

    Attributes:
        deadline: Not used; see ``Program``.
    """

    deadline = 0.0

    def __init__(self, interpreter: int, artifact: Artifact) -> None:
        """Load the plugin; raises as ``load()``."""
        self._interpreter = interpreter
        report = memoryview(mmap.mmap(-1, _REPORT_SIZE))
        names = list(artifact.files)
        rest = [artifact.options, artifact.memory_limit, artifact.stack_limit]
        lane, pending, busy_poll, bulk = artifact.host.hand_over()
        facts = pack(
            [artifact.plugin_id, artifact.entry, artifact.root, names, *rest, lane, pending, busy_poll]
        )
        views = {f"file_{number}": artifact.files[name] for number, name in enumerate(names)}
        _run(interpreter, "load(globals())", {"facts": facts, "report": report, "bulk": bulk, **views})
        size = int.from_bytes(report[:4], "big")
        answer = unpack(report[4 : 4 + size])
        if isinstance(answer, list):
            kind, message, detail = map(str, answer)
            failure = Failure(message, detail)
            failure.kind = kind
            raise failure
        assert isinstance(answer, dict)
        self._functions = {name: str(signature) for name, signature in answer.items()}

    def functions(self) -> dict[str, str]:
        """Name the functions that can be called, with their signatures."""
        return self._functions

    def serve(self) -> None:
        """Let the subinterpreter serve until the host closes the lane."""
        _run(self._interpreter, "serve_lane()", {})


def _make_interpreter() -> int:
    interpreter: int = _interpreters.create("isolated", reqrefs=False)
    library = _Shared.library
    _run(interpreter, "import _interpreters", {})  # from then on it can receive views of memory
    views = {"index": library.index, "blob": library.blob, "root": library.root}
    _run(interpreter, _BOOT, {"code": _Shared.library_code, **views})
    return interpreter


def _run(interpreter: int, code: str, shared: dict[str, Any]) -> None:
    # Since Python 3.13 it describes an exception that was not caught; typeshed knows 3.12.
    failed = _interpreters.run_string(interpreter, code, shared)  # type: ignore[func-returns-value]
    if failed is not None:
        raise RuntimeError(f"the subinterpreter ended: {failed.formatted}")
