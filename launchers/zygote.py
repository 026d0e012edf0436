"""The fork server of one plugin format.

Run by the host as ``python -I -S zygote.py FORMAT VARIANT CONTROL_FD HOST_PID NETWORK CGROUPS UID TMPDIR
PATH...``, never imported. Two processes:

- The **keeper** is what the host started. It waits for the host to end (its pidfd) or the fork server to
  end, kills what is left, and removes the host's cgroups when the host no longer can. It runs no engine
  and reads nothing but its arguments.
- The **fork server** is the keeper's child and the first process of a PID namespace, so its end is the end
  of every plugin process, whatever they did. It imports the engine, warms it, and then does one thing:
  fork a child for each request of the host and say how each one died.

Every request is one packet on a SEQPACKET socket with the descriptors it needs. The only reader of
untrusted bytes is the child, after the jail has closed.
"""

import importlib
import os
import sys

_PACKAGE = "frys_runtime.launchers"


def _bootstrap(paths: list[str]) -> None:
    """Make ``frys_runtime`` and this folder importable; ``-I -S`` left only the standard library.

    The package is made by hand, because importlib.util imports threading, which costs every child memory.
    """
    sys.path[:0] = paths
    importlib.import_module("frys_runtime")
    package = type(sys)(_PACKAGE)
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules[_PACKAGE] = package


def main(argv: list[str]) -> None:
    """Split into keeper and fork server; only the fork server comes back from the split."""
    format_name, variant, control, host, network, cgroups, uid, temporary, *paths = argv
    _bootstrap(paths)
    keeper = importlib.import_module(f"{_PACKAGE}.keeper")
    ground = keeper.split(
        int(control),
        int(host),
        network=network == "network",
        cgroups=cgroups.split(":") if cgroups else [],
        uid=int(uid),
        temporary=temporary,
    )
    forkserver = importlib.import_module(f"{_PACKAGE}.forkserver")
    forkserver.run(format_name, variant, int(control), ground)


if __name__ == "__main__":
    main(sys.argv[1:])
