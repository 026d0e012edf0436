"""A registry as a process of its own, and packages to publish there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from command import FRYS, frys

from frys_runtime.packing import pack


class Live(NamedTuple):
    """A registry that runs.

    Attributes:
        url: Its address, without a slash at the end.
        folder: Its folder.
        keys: The folder of its offline keys.
        process: Its process.
        admin: A token that may do everything.
    """

    url: str
    folder: Path
    keys: Path
    process: subprocess.Popen[bytes]
    admin: str

    def client(self, token: str = "", **options: Any) -> httpx.Client:
        """Somebody who talks to the API."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=30, **options)

    def token(self, publisher: str, *scopes: str) -> str:
        """A new token."""
        return token(self.folder, publisher, *scopes)

    def stop(self) -> int:
        """End it as an administrator does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def make(folder: Path, **settings: Any) -> Path:
    """Make a registry; the folder of its offline keys is beside it."""
    done = frys("registry", "init", folder, "--root-keys", f"{folder}-keys")
    assert done.returncode == 0, done.stderr.decode()
    path = folder / "registry.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def token(folder: Path, publisher: str, *scopes: str) -> str:
    """Make a token by the command."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    done = frys("registry", "token", "create", folder, "--publisher", publisher, *words)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@contextlib.contextmanager
def serving(folder: Path, *, before: Sequence[str] = (), admin: str = "") -> Iterator[Live]:
    """Serve a registry on a free port until the end of the block.

    Args:
        folder: What :func:`make` made.
        before: Words before the command, such as ``unshare``.
        admin: An administrator's token; without it, one is made.
    """
    admin = admin or token(folder, "admin", "admin")
    command = [*before, *FRYS, "registry", "serve", str(folder), "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    log = folder.with_name(f"{folder.name}.log")
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        url = json.loads(line)["url"].rstrip("/")
        yield Live(url, folder, Path(f"{folder}-keys"), process, admin)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        sys.stderr.write(log.read_text())


def package(
    folder: Path, plugin: str, version: str = "1.0.0", *, readme: str = "", code: str = "", **about: Any
) -> bytes:
    """The bytes of a package of a small plugin."""
    source = folder / f"{plugin}-{version}"
    source.mkdir()
    document = {"id": plugin, "version": version, "format": "python", "entry": "main.py", **about}
    (source / "plugin.json").write_text(json.dumps(document))
    (source / "main.py").write_text(code or "def double(number):\n    return 2 * number\n")
    if readme:
        (source / "README.md").write_text(readme)
    return pack(source)


def publish(client: httpx.Client, data: bytes, **beside: bytes) -> httpx.Response:
    """Publish a package, with what lies beside it."""
    files = {name: (name, content) for name, content in {"package": data, **beside}.items()}
    return client.post("/plugins", files=files)
