"""WASI commands: a whole program is the function, stdin its argument and stdout its result.

    run(stdin: bytes = b"", *arguments: str) -> stdout: bytes

Every call runs the program from its beginning in a fresh instance. An exit code other than 0 is the
program's exception; what it wrote to stderr goes to the plugin's log, and its end into the detail.
"""

from ..artifact import Value
from ..failures import BadArguments
from ..wasm_engine import FunctionType, Module
from ..wasm_wasi import Exit, Program
from . import Function, Guest

FRESH_INSTANCE = True

_START: FunctionType = ((), ())
_SIGNATURE = '(stdin: bytes = b"", *arguments: str) -> bytes'
# Part of the plugin's memory limit: collecting, joining and sending the output takes copies.
_OUTPUT_SHARE = 4


def recognises(module: Module) -> bool:
    """Recognise the entry point of a program."""
    return module.exports.get("_start") == _START


def bind(guest: Guest) -> dict[str, Function]:
    """Bind the program under the names that callers may guess."""
    start = guest.instance.entry("_start", _START).run

    def call(args: list[Value]) -> Value:
        stdin = b""
        if args and isinstance(args[0], bytes):
            stdin, args = args[0], args[1:]
        before = guest.wasi.program
        arguments = [*before.arguments, *map(_argument, args)]
        output = bytearray()
        most = guest.artifact.memory_limit // _OUTPUT_SHARE
        guest.wasi.program = Program(arguments, stdin, output, most, before.environment, before.tree)
        try:
            start()
        except Exit as end:
            if end.code:
                raise
        return bytes(output)

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
