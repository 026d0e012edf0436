"""A WASI program and what it has around it: arguments, environment, streams, folders."""

import os
from collections.abc import Callable

from . import wasm_granted, wasm_tree
from .artifact import Artifact
from .failures import BadArtifact, HostRefused, LimitReached, PluginRaised
from .wasm_entry import BADF, Entry, WasiError
from .wasm_files import Descriptors, Preopens

type Environment = Callable[[], list[bytes]]

STDIN, STDOUT, STDERR = 0, 1, 2
_STDERR_TAIL = 1 << 14
_READ_ONLY = "ro:"  # as in Extism's manifests


class Exit(PluginRaised):
    """The program called ``proc_exit``.

    Attributes:
        code: Its exit code.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"exit code {code}", detail)
        self.code = code


class Program:
    """What a running program has around it.

    Attributes:
        arguments: ``argv``, without the final NULs.
        environment: ``NAME=value``, asked for when the program asks.
        preopens: The folders that it finds open.
        files: The files and folders that it has open.
        stdin: What it has not read yet.
        stdout: What it wrote there, or ``None`` when that goes straight to file descriptor 1.
        streams: The streams that it has open, by the numbers under which it has them.
        stderr_tail: The end of what it wrote there; all of it goes to file descriptor 2 at once.
    """

    def __init__(
        self,
        arguments: list[bytes],
        stdin: bytes = b"",
        stdout: bytearray | None = None,
        max_stdout: int = 0,
        environment: Environment | None = None,
        preopens: Preopens = (),
    ) -> None:
        self.arguments = arguments
        self.environment: Environment = environment if environment is not None else list
        self.preopens = preopens
        self.files = Descriptors(preopens)
        self.stdin = memoryview(stdin)
        self.stdout = stdout
        self.stderr_tail = b""
        self.streams = {STDIN: STDIN, STDOUT: STDOUT, STDERR: STDERR}
        self._max_stdout = max_stdout

    def renumber(self, source: int, target: int) -> None:
        """Give what is open another number, and close what had it.

        Raises:
            WasiError: One of the numbers stands for nothing.
        """
        opened = self.files.opened
        if not all(number in opened or number in self.streams for number in (source, target)):
            raise WasiError(BADF)
        if source == target:
            return
        replaced = opened.pop(target, None)
        self.streams.pop(target, None)
        if source in opened:
            opened[target] = opened.pop(source)
        else:
            self.streams[target] = self.streams.pop(source)
        if replaced is not None:
            replaced.close()

    def write(self, fd: int, data: bytes) -> int:
        """Write to stdout or stderr and return how many bytes were taken.

        Raises:
            LimitReached: stdout is collected and has grown too large.
            OSError: The real stream is closed or full.
        """
        if fd == STDOUT and self.stdout is not None:
            if len(self.stdout) + len(data) > self._max_stdout:
                size = len(self.stdout) + len(data)
                raise LimitReached("output", "the program wrote too much to stdout", size)
            self.stdout += data
            return len(data)
        if fd == STDERR:
            self.stderr_tail = (self.stderr_tail + data)[-_STDERR_TAIL:]
        return os.write(fd, data)


def surroundings(artifact: Artifact) -> tuple[list[bytes], Environment]:
    """What a program of this plugin has around it: its first arguments and its environment.

    ``plugin.json`` names arguments and variables (``"wasm": {"arguments": [...], "environ": {...}}``); the
    values of the plugin's configuration are variables, too, and count more.

    Raises:
        BadArtifact: plugin.json says something else there.
    """
    arguments, environ = artifact.options.get("arguments", []), artifact.options.get("environ", {})
    if not isinstance(arguments, list) or not isinstance(environ, dict):
        raise BadArtifact(
            "plugin.json: wasm.arguments must be a list, and wasm.environ an object, of strings"
        )
    first = [artifact.plugin_id.encode(), *(_setting("wasm.arguments", value) for value in arguments)]
    given = {name: _setting(f"wasm.environ.{name}", value) for name, value in environ.items()}
    for name in given:
        if not name or "=" in name or "\0" in name:
            raise BadArtifact(f"plugin.json: wasm.environ has {name!r}, which no variable can be called")
    found: list[list[bytes]] = []

    def environment() -> list[bytes]:
        if not found:
            found.append(
                [name.encode() + b"=" + value for name, value in (given | _configured(artifact)).items()]
            )
        return found[0]

    return first, environment


def folders(artifact: Artifact, names: dict[str, str] | None = None) -> list[tuple[bytes, Entry]]:
    """The folders that a program of this plugin finds open: its own, then those that its policy grants.

    A plugin that is a single file has no folder of its own.

    Args:
        artifact: The plugin.
        names: What the plugin wants of what is granted, ``ro:`` before what it only reads, each with the name
            for it; ``None`` for everything that is there under its own name.

    Raises:
        BadArtifact: It wants what is not granted, or a granted folder cannot be opened.
    """
    found: list[tuple[bytes, Entry]] = []
    if len(artifact.files) > 1:
        found.append((wasm_tree.ROOT, wasm_tree.Folder(wasm_tree.Tree(artifact.files))))
    try:
        for path, name in (names or {}).items():
            found.append((name.encode(), _wanted(artifact, path)))
        for path, writable in artifact.paths if names is None else ():
            folder = _opened(path, writable)
            if folder is not None:
                found.append((os.fsencode(path), folder))
    except BaseException:
        close(found)
        raise
    return found


def _wanted(artifact: Artifact, path: str) -> wasm_granted.Preopened:
    writes, path = not path.startswith(_READ_ONLY), os.path.normpath(path.removeprefix(_READ_ONLY))
    around = [
        granted
        for granted, writable in artifact.paths
        if f"{path}/".startswith(f"{granted}/") and writable >= writes
    ]
    if not around:
        use = "written" if writes else "read"
        raise BadArtifact(f"it wants the folder {path}, which its policy does not grant to be {use}")
    granted = max(around, key=len)
    folder = _opened(granted, writes, path[len(granted) + 1 :])
    if folder is None:
        raise BadArtifact(f"it wants the folder {path}, which is not there, or is no folder")
    return folder


def _opened(path: str, writable: bool, below: str = "") -> wasm_granted.Preopened | None:
    try:
        return wasm_granted.preopen(path, writable, below)
    except OSError as error:
        raise BadArtifact(f"the granted folder {path} cannot be opened: {error.strerror}") from None
    except WasiError:
        raise BadArtifact(f"{below} leads out of the granted folder {path}") from None


def close(preopens: Preopens) -> None:
    """Close the folders for good: no more programs will find them."""
    for _, folder in preopens:
        if isinstance(folder, wasm_granted.Preopened):
            folder.end()


def _setting(where: str, value: object) -> bytes:
    if not isinstance(value, str) or "\0" in value:
        raise BadArtifact(f"plugin.json: {where} must be a string without NUL characters")
    return value.encode()


def _configured(artifact: Artifact) -> dict[str, bytes]:
    try:
        config = artifact.host.ask("config")
    except HostRefused:
        return {}
    if not isinstance(config, dict):
        return {}
    return {
        name: str(value).encode()
        for name, value in config.items()
        if isinstance(value, str | int | float) and "=" not in name and "\0" not in f"{name}{value}"
    }
