"""Programs of others that speak OCI: skopeo, and the registry that many others are (CNCF Distribution)."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

SKOPEO = ["skopeo", "--insecure-policy"]  # which images' signatures it asks for is not what is tried
# scripts/setup puts the program alone beside Python: its package would start a service.
_BESIDE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
DOCKER_REGISTRY = shutil.which("docker-registry", path=_BESIDE) or "docker-registry"

_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {data}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextlib.contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Serve an empty registry of others until the end of the block; its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(data=folder / "data", port=port))
    process = subprocess.Popen([DOCKER_REGISTRY, "serve", config], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(URLError), urlopen(f"http://127.0.0.1:{port}/v2/"):
                break
            assert process.poll() is None
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
