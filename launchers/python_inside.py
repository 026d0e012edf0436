"""The subinterpreter's side of python.py: load a plugin, report, serve it.

Only numbers, text, bytes and views of memory cross from one interpreter to the other.
"""

import sys

from .artifact import Artifact
from .bulk import Bulk
from .codec import pack, unpack
from .failures import BadArtifact, Failure, PluginRaised
from .host import Host
from .python_plugin import Program
from .serve import Lane, serve

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_MAX_DETAIL = 1 << 16
# CPython settles on specialised bytecode, which it writes into the code, after some runs.
_WARM_RUNS = 10
_WARM = b"""
def f(value):
    if value is None:
        raise ValueError("warm")
    print(end="")
    return value
"""

# At most one; __main__ belongs to the plugin.
_programs: list[Program] = []
# Kept, because a socket object that goes closes the descriptor that the main interpreter answers on.
_lanes: list[tuple[Lane, Host]] = []


def load(shared: "dict[str, Any]") -> None:
    """Load the plugin that lies in ``__main__``; write its functions, or the failure, to ``report``."""
    report, bulk = shared.pop("report"), shared.pop("bulk")
    facts: Any = unpack(memoryview(shared.pop("facts")))
    plugin_id, entry, root, names, options, memory, stack, fd, pending, poll = facts
    files = {name: shared.pop(f"file_{number}") for number, name in enumerate(names)}
    if "random" in sys.modules:
        sys.modules["random"].seed()  # a fork copied its state
    host = Host()
    if fd >= 0:
        lane = Lane(fd, pending, Bulk(bulk), poll)
        host = Host(lane)
        _lanes.append((lane, host))
    host.begin()
    try:
        program = Program(Artifact(plugin_id, entry, files, root, options, memory, stack, host))
        answer = pack(program.functions())
        if 4 + len(answer) > len(report):
            raise BadArtifact("the plugin offers too many functions to list; name the public ones in __all__")
        _programs.append(program)
    except Failure as failure:
        answer = pack([failure.kind, failure.message, failure.detail[:_MAX_DETAIL]])
    host.end()
    report[: 4 + len(answer)] = len(answer).to_bytes(4, "big") + answer


def serve_lane() -> None:
    """Answer calls until the host closes the lane."""
    lane, host = _lanes[0]
    serve(lane, _programs[0], host)


def warm(modules: "Sequence[str]") -> None:
    """Import modules and run a plugin of our own, so that all children share the memory of both."""
    for name in modules:
        __import__(name)
    for _ in range(_WARM_RUNS):
        program = Program(Artifact("warm", "warm.py", {"warm.py": memoryview(_WARM)}))
        pack(program.functions())
        args: Any = unpack(memoryview(pack([{"warm": [1, 2.5, "text", b"bytes", True]}])))
        pack(program("f", args))
        try:
            program("f", [None])
        except PluginRaised as failure:
            pack([failure.kind, failure.message, failure.detail])
        program.unload()
