"""What a file is: the format that its name says, and whether its bytes are of that format.

This is no proof that it runs. It is what a person who took the wrong file wants to hear.
"""

import os
from typing import Final

from .errors import InvalidFormat
from .linux.bpf import MACHINE
from .metadata import Format

_HEAD: Final = 64

SUFFIXES: Final = {
    ".wasm": Format.WASM,
    ".js": Format.JAVASCRIPT,
    ".mjs": Format.JAVASCRIPT,
    ".cjs": Format.JAVASCRIPT,
    ".so": Format.NATIVE,
    ".py": Format.PYTHON,
}
_NAMES: Final = {
    Format.WASM: "a WebAssembly module",
    Format.JAVASCRIPT: "JavaScript (UTF-8 text)",
    Format.NATIVE: f"a shared library for {MACHINE}",
    Format.PYTHON: "Python (UTF-8 text)",
}
# e_machine, from <elf.h>.
_MACHINES: Final = {
    "i386": 3,
    "arm": 40,
    "x86_64": 62,
    "aarch64": 183,
    "riscv64": 243,
    "ppc64": 21,
    "s390x": 22,
    "loongarch64": 258,
}


def detect(name: str, suffix: str, fd: int) -> Format:
    """The format of a bare file: by its suffix, or by what it begins with.

    Args:
        name: How to name it in errors.
        suffix: How its name ends, with the dot.
        fd: The file.

    Raises:
        InvalidFormat: It is no plugin.
    """
    known = SUFFIXES.get(suffix.lower())
    if known is not None:
        return known
    head = os.pread(fd, _HEAD, 0)
    if head.startswith(b"\0asm"):
        return Format.WASM
    if head.startswith(b"\x7fELF"):
        return Format.NATIVE
    raise InvalidFormat(name, f"a plugin ({', '.join(SUFFIXES)})", f"its suffix is {suffix!r}")


def check_content(kind: Format, name: str, fd: int, offset: int, size: int) -> None:
    """Refuse what is not of a format.

    Args:
        kind: The format.
        name: How to name it in errors.
        fd: A file in which it lies.
        offset: Where it begins there.
        size: Bytes.

    Raises:
        InvalidFormat: It is something else, and what.
    """
    check, whole = _CHECKS[kind]
    if found := check(os.pread(fd, size if whole else min(size, _HEAD), offset)):
        raise InvalidFormat(name, _NAMES[kind], found)


# Each check says what stands there instead, or nothing when all is well.


_MAGICS: Final = {
    b"\0asm": "a WebAssembly module",
    b"\x7fELF": "an ELF file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"MZ": "a Windows program",
    b"\xcf\xfa\xed\xfe": "a macOS library",
}


def _kind(content: bytes) -> str:
    """A few words for content that is not what it should be."""
    if not content:
        return "an empty file"
    for magic, kind in _MAGICS.items():
        if content.startswith(magic):
            return kind
    return f"it begins with the bytes {content[:8].hex(' ')}"


def _not_wasm(content: bytes) -> str:
    if not content.startswith(b"\0asm"):
        return _kind(content)
    if len(content) < 8:
        return f"a WebAssembly module that ends after {len(content)} bytes"
    return ""


def _not_text(content: bytes) -> str:
    if not content or (content.startswith(tuple(_MAGICS)) and b"\0" in content):
        return _kind(content)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} is 0x{content[error.start]:02x}, which is not UTF-8"
    zero = content.find(b"\0")
    return f"byte {zero} is 0" if zero >= 0 else ""


def _not_library(content: bytes) -> str:
    """What the ELF header says; elf(5)."""
    if not content.startswith(b"\x7fELF"):
        return _kind(content)
    if len(content) < _HEAD:
        return f"an ELF file that ends after {len(content)} bytes"
    if content[4:6] != b"\x02\x01":
        return "an ELF file that is not 64-bit little-endian"
    kind, machine = (int.from_bytes(content[at : at + 2], "little") for at in (16, 18))
    if machine != _MACHINES.get(MACHINE):
        names = {number: name for name, number in _MACHINES.items()}
        return f"an ELF file for {names.get(machine, f'machine {machine}')}"
    return "" if kind == 3 else "an ELF file, but not a shared library (build it with -shared)"


_CHECKS: Final = {
    # The check, and whether it reads the whole file or only its head.
    Format.WASM: (_not_wasm, False),
    Format.JAVASCRIPT: (_not_text, True),
    Format.NATIVE: (_not_library, False),
    Format.PYTHON: (_not_text, True),
}
