"""The fork server's part of python_library: read the standard library into shared memory."""

import importlib.util
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from marshal import dumps  # noqa: TID251 - it only writes

from .python_library import Library

_LEFT_OUT = {
    *("__pycache__", "__phello__", "_pyrepl", "curses", "ensurepip", "idlelib", "lib-dynload", "pydoc_data"),
    *("site-packages", "test", "tests", "tkinter", "turtledemo", "unittest", "venv"),
}
_PYC_HEADER = 16
_SIZE = 8


def collect(ours: Sequence[str]) -> Library:
    """Read the standard library, in the fork server.

    Only modules whose compiled form is current are taken, and those that are loaded anyway: compiling
    all the others would take seconds. What is missing can still be imported while a plugin loads.

    Args:
        ours: Modules of Frys to add, for the subinterpreter; it sees none of our files.
    """
    root = os.path.dirname(os.__file__)
    file = os.memfd_create("frys-stdlib", os.MFD_CLOEXEC)
    # In a process of its own: reading 9 MB would leave holes all over the fork server's heap, and every
    # plugin process would copy the pages around them (measured: 0.6 MB each).
    writer = os.fork()
    if not writer:
        try:
            _write(file, [*_compiled(root), *_extensions(), *_own(ours)])
        except BaseException:
            os._exit(1)  # whatever it was: this process must not return into its parent's code
        os._exit(0)
    if os.waitpid(writer, 0)[1]:
        raise RuntimeError("the standard library could not be read")
    # Private: what a child could write into it would be its own copy. Populated: a page that the fork server
    # has touched is not private to the first child that reads it.
    flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
    size = os.fstat(file).st_size
    block = memoryview(mmap.mmap(file, size, flags=flags, prot=mmap.PROT_READ, trackfd=False))
    os.close(file)
    start = _SIZE + int.from_bytes(block[:_SIZE], "little")
    return Library(bytes(block[_SIZE:start]), block[start:], root)


def _write(file: int, modules: Sequence[tuple[str, str, bytes]]) -> None:
    lines, offset = [b""], 0
    for name, kind, content in modules:
        lines.append(f"{name} {kind} {offset} {len(content)}".encode())
        offset += len(content)
    index = b"\n".join([*lines, b""])
    with open(file, "wb", closefd=False) as stream:
        stream.write(len(index).to_bytes(_SIZE, "little") + index)
        stream.writelines(content for _, _, content in modules)


def _compiled(root: str) -> Iterator[tuple[str, str, bytes]]:
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if entry.is_dir():
                    if entry.name.isidentifier() and entry.name not in _LEFT_OUT:
                        folders.append((entry.path, f"{prefix}{entry.name}."))
                elif suffix == ".py":
                    package = stem == "__init__"
                    name = prefix[:-1] if package else prefix + stem
                    code = _code(entry, folder, stem, name)
                    if name and code:
                        yield name, "p" if package else "m", code


def _code(entry: os.DirEntry[str], folder: str, stem: str, name: str) -> bytes:
    # The layout of a .pyc: https://docs.python.org/3/library/py_compile.html and PEP 552.
    try:
        with open(f"{folder}/__pycache__/{stem}.{sys.implementation.cache_tag}.pyc", "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    if data[:4] == MAGIC_NUMBER and (data[4] or _mtime(data) == int(entry.stat().st_mtime) & 0xFFFFFFFF):
        return data[_PYC_HEADER:]
    loader = getattr(sys.modules.get(name), "__loader__", None)
    return dumps(loader.get_code(name)) if isinstance(loader, SourceFileLoader) else b""


def _mtime(data: bytes) -> int:
    return int.from_bytes(data[8:12], "little")


def _extensions() -> Iterator[tuple[str, str, bytes]]:
    for name in sys.stdlib_module_names:
        module = sys.modules.get(name)
        if isinstance(getattr(module, "__loader__", None), ExtensionFileLoader):
            yield name, "x", str(getattr(module, "__file__", "")).encode()


def compiled(name: str) -> bytes:
    """Give a module's code as ``marshal`` bytes."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert isinstance(spec.loader, SourceFileLoader)
    return dumps(spec.loader.get_code(name))


def _own(modules: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    for package in {name.rsplit(".", count)[0] for name in modules for count in (1, 2)}:
        yield package, "p", dumps(compile("", package, "exec"))
    for name in modules:
        yield name, "m", compiled(name)
