"""Read as much of an ELF file as is needed to refuse it with a reason and to name its functions.

The C library's loader trusts the files that it opens: a truncated one kills the process with SIGBUS where
an error was due. What it would trip over most likely is checked here first; what is left (a file damaged
on purpose) ends as a dead child, which the host explains.

Source: elf(5); System V ABI, chapters 4 and 5.
"""

import os
import struct

from .failures import BadArtifact

_IDENTIFICATION = struct.Struct("<4sBB10x")  # magic, width, byte order
_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")

_HERE = os.uname().machine
_SHARED_OBJECT = 3
_LOAD_SEGMENT = 1
_DYNAMIC_SYMBOLS = 11
_FUNCTIONS = (2, 10)  # STT_FUNC; STT_GNU_IFUNC: a function that chooses its code when it is linked
_EXPORTED = (1, 2)  # STB_GLOBAL, STB_WEAK
_VISIBLE = (0, 3)  # STV_DEFAULT, STV_PROTECTED

_KINDS = {1: "an object file", 2: "a program", 4: "a core dump"}
_MACHINES = {
    3: "i386",
    8: "mips",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}
_FOREIGN = {
    b"MZ": "a Windows file",
    b"\xcf\xfa\xed\xfe": "a macOS file",
    b"\0asm": "a WebAssembly module",
    b"!<ar": "an archive",
}


def exported_functions(name: str, content: memoryview) -> list[str]:
    """Check that a file is a shared object for this machine and list what it exports.

    Args:
        name: What to call the file in messages.
        content: The whole file.

    Returns:
        The functions that the file itself defines and exports, sorted; what it takes from its dependencies
        is not among them.

    Raises:
        BadArtifact: It is no such file; the message says what it is instead and what to do.
    """
    _check_identification(name, content)
    try:
        header = _HEADER.unpack_from(content, _IDENTIFICATION.size)
        kind, machine, _, _, segments_at, sections_at, _, _, _, segments, _, sections, _ = header
        _check_target(name, kind, machine)
        _check_segments(name, content, segments_at, segments)
        return _functions(name, content, sections_at, sections)
    except (struct.error, OverflowError, ValueError):
        raise BadArtifact(f"{name} is truncated or damaged: its tables point outside the file") from None


def _check_identification(name: str, content: memoryview) -> None:
    if not content:
        raise BadArtifact(f"{name} is empty")
    if bytes(content[:4]) != b"\x7fELF":
        foreign = next(
            (what for magic, what in _FOREIGN.items() if bytes(content[: len(magic)]) == magic), None
        )
        found = f", but {foreign}" if foreign else ""
        raise BadArtifact(f"{name} is not a shared object of Linux (ELF){found}")
    if len(content) < _IDENTIFICATION.size + _HEADER.size:
        raise BadArtifact(f"{name} is truncated: {len(content)} bytes are less than the header of ELF")
    _, width, order = _IDENTIFICATION.unpack_from(content)
    if (width, order) != (2, 1):
        kind = {(1, 1): "32-bit", (2, 2): "big-endian"}.get((width, order), "foreign")
        raise BadArtifact(f"{name} is a {kind} ELF file; build it for {_HERE}")


def _check_target(name: str, kind: int, machine: int) -> None:
    if kind != _SHARED_OBJECT:
        found = _KINDS.get(kind, f"an ELF file of type {kind}")
        raise BadArtifact(f"{name} is {found}, not a shared object; link it with -shared")
    target = _MACHINES.get(machine, f"machine number {machine}")
    if target != _HERE:
        raise BadArtifact(f"{name} is built for {target}, but this machine is {_HERE}; build it for {_HERE}")


def _check_segments(name: str, content: memoryview, at: int, count: int) -> None:
    for index in range(count):
        kind, _, offset, _, _, size, _, _ = _SEGMENT.unpack_from(content, at + index * _SEGMENT.size)
        missing = offset + size - len(content)
        if kind == _LOAD_SEGMENT and missing > 0:
            raise BadArtifact(f"{name} is truncated: {missing} bytes or more are missing at its end")


def _functions(name: str, content: memoryview, at: int, count: int) -> list[str]:
    sections = [_SECTION.unpack_from(content, at + index * _SECTION.size) for index in range(count)]
    table = next((section for section in sections if section[1] == _DYNAMIC_SYMBOLS), None)
    if table is None:
        raise BadArtifact(f"{name} exports nothing: it has no section .dynsym, or no section table")
    _, _, _, _, offset, size, strings_index, _, _, _ = table
    if strings_index >= count:
        raise BadArtifact(
            f"{name} is damaged: its names are said to be in section {strings_index} of {count}"
        )
    strings = _part(content, *sections[strings_index][4:6])
    symbols = _part(content, offset, size - size % _SYMBOL.size)
    return sorted(
        strings[start : strings.index(b"\0", start)].decode("utf-8", "replace")
        for start, info, other, section, _, _ in _SYMBOL.iter_unpack(symbols)
        if section and info & 15 in _FUNCTIONS and info >> 4 in _EXPORTED and other & 3 in _VISIBLE
    )


def _part(content: memoryview, offset: int, size: int) -> bytes:
    if offset + size > len(content):
        raise ValueError
    return bytes(content[offset : offset + size])
