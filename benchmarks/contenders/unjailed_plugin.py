"""A plugin process of Frys without its jail: ``unjailed_plugin.py LANE_FD FACTS``.

It prints its process number when it is ready. It does what the fork server and its child do
(launchers/forkserver.py and child.py), but for the jail.
"""

import gc
import importlib
import importlib.util
import json
import os
import sys
from typing import Any


def _package(facts: dict[str, Any]) -> str:
    """Make the launchers importable the way the zygote does."""
    script = os.path.join(facts["launchers"], "zygote.py")
    spec = importlib.util.spec_from_file_location("zygote", script)
    assert spec is not None
    assert spec.loader is not None
    zygote: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(zygote)
    zygote._bootstrap(facts["paths"])
    return str(zygote._PACKAGE)


def main(lane_fd: str, facts: dict[str, Any]) -> None:
    """Warm the engine, fork, load the plugin in the child, and serve the lane until it is closed."""
    package = _package(facts)
    engine: Any = importlib.import_module(f"{package}.{facts['format']}")
    artifacts: Any = importlib.import_module(f"{package}.artifact")
    hosts: Any = importlib.import_module(f"{package}.host")
    serving: Any = importlib.import_module(f"{package}.serve")
    cpython: Any = importlib.import_module("frys_runtime.linux.cpython")
    libc: Any = importlib.import_module("frys_runtime.linux.libc")
    engine.prepare()
    if hasattr(engine, "share") and facts["options"].get("interpreter") != "main":
        engine.share()
    cpython.immortalise()
    gc.freeze()
    pid = libc.fork()
    if pid:
        os.close(int(lane_fd))
        os.waitpid(pid, 0)
        return
    gc.disable()
    lane = serving.Lane(int(lane_fd))
    if hasattr(engine, "park"):
        engine.park()
    root, entry = os.path.split(facts["file"])
    with open(facts["file"], "rb") as file:
        files = {entry: memoryview(file.read())}
    host = hosts.Host(lane)
    settings = facts["options"], facts["memory"], facts["stack"], host
    plugin = engine.load(artifacts.Artifact("bench", entry, files, root, *settings))
    gc.enable()
    print(os.getpid(), flush=True)
    own_loop = getattr(plugin, "serve", None)
    if own_loop is None:
        serving.serve(lane, plugin, host)
    else:
        own_loop()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
    os._exit(0)
