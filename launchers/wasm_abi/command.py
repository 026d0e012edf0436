"""WASI commands: a whole program is the function, stdin its argument and stdout its result.

    run(stdin: bytes = b"", *arguments: str) -> stdout: bytes

Every call runs the program from its beginning in a fresh instance. An exit code other than 0 is the
program's exception; what it wrote to stderr goes to the plugin's log, and its end into the detail.
"""

from ..artifact import Value
from ..failures import BadArguments
from ..wasm_library import FunctionType
from ..wasm_module import Module
from ..wasm_program import Exit, Program
from . import Function, Guest

FRESH_INSTANCE = True
BORROWS = False

_START: FunctionType = ((), ())
_SIGNATURE = '(stdin: bytes = b"", *arguments: str) -> bytes'
# Part of the plugin's memory limit: collecting, joining and sending the output takes copies.
_OUTPUT_SHARE = 4


def recognises(module: Module) -> bool:
    """Recognise the entry point of a program."""
    return module.exports.get("_start") == _START


class Streams:
    """What one call gives a command, and takes from it.

    Args:
        first: The first arguments of every call.
        args: What the caller passed: bytes for stdin, then str.
        memory_limit: Bytes that the plugin may use.

    Attributes:
        stdin: What it can read.
        arguments: All arguments.
        output: What it wrote to stdout.
        most: Bytes that this may be.

    Raises:
        BadArguments: The caller passed something else.
    """

    SIGNATURE = _SIGNATURE

    def __init__(self, first: list[bytes], args: list[Value], memory_limit: int) -> None:
        self.stdin = b""
        if args and isinstance(args[0], bytes):
            self.stdin, args = args[0], args[1:]
        self.arguments = [*first, *map(_argument, args)]
        self.output = bytearray()
        self.most = memory_limit // _OUTPUT_SHARE


def bind(guest: Guest) -> dict[str, Function]:
    """Bind the program under the names that callers may guess."""
    start = guest.instance.entry("_start", _START).run

    def call(args: list[Value]) -> Value:
        before = guest.wasi.program
        streams = Streams(before.arguments, args, guest.artifact.memory_limit)
        guest.wasi.begin(
            Program(
                streams.arguments,
                streams.stdin,
                streams.output,
                streams.most,
                before.environment,
                before.preopens,
            )
        )
        try:
            start()
        except Exit as end:
            if end.code:
                raise
        return bytes(streams.output)

    function = Function(lambda: call, _SIGNATURE)
    return dict.fromkeys(("_start", "main", "run"), function)


def _argument(value: Value) -> bytes:
    if not isinstance(value, str):
        raise BadArguments(
            f"a WASI command takes bytes for stdin, then str for its arguments, not {type(value).__name__}"
        )
    if "\0" in value:
        raise BadArguments("an argument of a WASI command cannot contain a NUL character")
    return value.encode()
