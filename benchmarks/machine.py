"""Facts about the machine and the moment, for the head of a report."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_PACKAGES = ("frys-runtime", "wasmtime", "quickjs-ng", "cffi", "msgspec", "pyzmq", "uvloop", "extism")
_TICKS = os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, Any]:
    """What a reader needs to compare two runs; nothing that names the machine or its owner."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "versions": {name: _version(name) for name in _PACKAGES} | {"bubblewrap": _bubblewrap()},
    }


def _cpu() -> str:
    found = re.search(r"^(?:model name|Model)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bubblewrap() -> str | None:
    path = shutil.which("bwrap")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return said.stdout.strip().removeprefix("bubblewrap ")


class Load:
    """How busy the machine is with other things while a run lasts."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._average = os.getloadavg()[0]
        self._machine, self._ours = _busy_seconds(), _own_seconds()

    def facts(self) -> dict[str, float]:
        """The load averages at both ends, and the share of all cores that went to strangers between them.

        The share counts as ours whatever this process's children and theirs have used, once they ended.
        """
        seconds = time.monotonic() - self._began
        strangers = _busy_seconds() - self._machine - (_own_seconds() - self._ours)
        cores = os.cpu_count() or 1
        return {
            "seconds": round(seconds, 1),
            "load_average_before": round(self._average, 2),
            "load_average_after": round(os.getloadavg()[0], 2),
            "other_processes_percent": round(max(strangers, 0) / seconds / cores * 100, 1),
        }


def _busy_seconds() -> float:
    """CPU time that was used, or stolen by the hypervisor, since boot (proc(5), the first line of stat)."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words)
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _own_seconds() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
