"""Processes by descriptor: signal them, name them, read their clocks, without the race of a number."""

import os
import resource
import select
import signal
import time

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def pid_of(pidfd: int) -> int:
    """The process number behind a pidfd as this process sees it; -1 when it has been reaped (proc(5))."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return -1


def kill(pidfd: int) -> None:
    """Kill the process; nothing happens when it is dead already (pidfd_send_signal(2))."""
    send_signal(pidfd, signal.SIGKILL)


def is_dead(pidfd: int) -> bool:
    """Whether a process has ended, reaped or not (pidfd_open(2): its descriptor is readable then)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal; nothing happens when the process is dead already."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def cpu_ns(pid: int) -> int | None:
    """CPU time that all threads of a process have used, in nanoseconds; ``None`` when it is gone.

    The clock's number is made as clock_getcpuclockid(3) makes it: ``(~pid << 3) | CPUCLOCK_SCHED``.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def cpu_parts_ns(pid: int) -> tuple[int, int]:
    """User and system CPU time of a process, in nanoseconds and steps of a tick; zeros when it is gone."""
    stat = _stat(pid)
    return (int(stat[11]) * _TICK_NS, int(stat[12]) * _TICK_NS) if stat else (0, 0)


def threads(pid: int) -> int:
    """How many threads a process has; 0 when it is gone."""
    stat = _stat(pid)
    return int(stat[17]) if stat else 0


def is_stopped(pid: int) -> bool:
    """Whether no thread of a process runs: it was stopped by a signal, or is dead (proc_pid_stat(5))."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    stats = [_stat(f"{pid}/task/{thread}") for thread in threads]
    return all(not stat or stat[0] in (b"T", b"t", b"Z", b"X") for stat in stats)


def _stat(pid: int | str) -> list[bytes]:
    """The fields of proc_pid_stat(5) from the third on; what stands before may hold blanks."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def storage_bytes(pid: int) -> tuple[int, int]:
    """Bytes that a process and its dead children made storage read and write (proc_pid_io(5)).

    Page cache hits and memory file systems do not count. Zeros when the kernel does not let this user see.
    """
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            counts = dict(line.split(b": ") for line in file.read().splitlines())
    except OSError:
        return 0, 0
    return int(counts[b"read_bytes"]), int(counts[b"write_bytes"])


def open_files(pid: int) -> int:
    """How many descriptors a process holds; 0 when the kernel does not let this user count them."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def resident_memory(pid: int) -> int:
    """Bytes of a process that are in memory now (its RSS); 0 when it is gone (proc_pid_statm(5))."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def private_memory(pid: int) -> int:
    """Bytes that only this process holds (its USS); 0 when the kernel does not let this user see."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    total += int(line.split()[1]) << 10
    except OSError:
        return 0
    return total
