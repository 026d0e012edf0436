"""The process between the host and a fork server: it outlives both just long enough to tidy up."""

import os
import select
import signal
import time

from frys_runtime.linux import libc

_HOST_GRACE_MS = 300
_REMOVAL_TRIES = 200


def split(control: int, *, network: bool, cgroups: list[str]) -> None:
    """Enter the namespaces, fork, and return in the fork server only.

    Args:
        control: The control socket; the keeper sees on it when the host closes its end.
        network: Leave the host's network in place instead of an empty one.
        cgroups: Folders of the host's cgroup tree, removed here if the host dies without doing so.

    Raises:
        OSError: The kernel does not let this user make the namespaces.
    """
    libc.set_name("frys-keeper")
    host = os.pidfd_open(os.getppid())
    _unshare(network=network)
    keeper = os.getpid()
    child = os.fork()
    if not child:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        # Had the keeper died before the line above, nobody would send the signal any more.
        if _is_dead(host) or not os.path.exists(f"/proc/{keeper}"):
            os._exit(1)
        os.close(host)
        return
    try:
        _keep(host, control, child, cgroups)
    finally:
        os._exit(0)


def _unshare(*, network: bool) -> None:
    flags = os.CLONE_NEWPID | os.CLONE_NEWNS | os.CLONE_NEWIPC | (0 if network else os.CLONE_NEWNET)
    if os.geteuid() == 0:
        os.unshare(flags)
    else:
        user, group = os.geteuid(), os.getegid()
        os.unshare(flags | os.CLONE_NEWUSER)
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)


def _keep(host: int, control: int, child: int, cgroups: list[str]) -> None:
    server = os.pidfd_open(child)
    poller = select.poll()
    poller.register(host, select.POLLIN)
    poller.register(server, select.POLLIN)
    poller.register(control, 0)  # POLLHUP always comes; packets are the fork server's to read
    poller.poll()
    signal.pidfd_send_signal(server, signal.SIGKILL)
    end = os.waitid(os.P_PIDFD, server, os.WEXITED)  # returns when the whole PID namespace is gone
    orderly = end is not None and (end.si_code, end.si_status) == (os.CLD_EXITED, 0)
    if not orderly and _is_dead(host, _HOST_GRACE_MS):
        _remove(cgroups)


def _is_dead(process: int, wait_ms: int = 0) -> bool:
    poller = select.poll()
    poller.register(process, select.POLLIN)
    return bool(poller.poll(wait_ms))


def _remove(trees: list[str]) -> None:
    """Remove empty cgroups from the leaves up; other launchers' plugins may take a moment to be gone."""
    for _ in range(_REMOVAL_TRIES):
        for tree in trees:
            for folder, _, _ in os.walk(tree, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    continue
        if not any(os.path.exists(tree) for tree in trees):
            return
        time.sleep(0.02)
