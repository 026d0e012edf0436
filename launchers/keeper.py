"""The process between the host and a fork server: it outlives both just long enough to tidy up."""

import fcntl
import os
import select
import signal
import time
from typing import NamedTuple, NoReturn

from frys_runtime import jail
from frys_runtime.linux import libc

_HOST_GRACE_MS = 300
_REMOVAL_TRIES = 200


class Ground(NamedTuple):
    """What this machine gives a fork server to stand on.

    Attributes:
        lacks: The layers that the kernel refuses to this user.
        why: What it said; empty when it refuses nothing.
        folder: Where plugins' files go when there can be no private root; otherwise empty.
        one_user: There is only the host's own user here, because the keeper needed a user namespace.
    """

    lacks: tuple[str, ...] = ()
    why: str = ""
    folder: str = ""
    one_user: bool = False


def split(
    control: int, host_pid: int, *, network: bool, cgroups: list[str], uid: int, temporary: str
) -> Ground:
    """Enter the namespaces that the machine gives, fork, and return in the fork server only.

    A machine that gives none still gets a fork server: whether a plugin may start there is for its policy to
    say, and the host compares that with the layers that are missing.

    Args:
        control: The control socket; the keeper sees on it when the host closes its end.
        host_pid: The host.
        network: Leave the host's network in place instead of an empty one.
        cgroups: Folders of the host's cgroup tree, removed here if the host dies without doing so.
        uid: A user that a plugin process may become; 0 when it stays this one.
        temporary: The host's folder for temporary files.

    Raises:
        OSError: The kernel refuses now what it gave a moment before.
    """
    libc.set_name("frys-keeper")
    host = _host(host_pid, cgroups)
    keeper = os.pidfd_open(os.getpid())
    ground = _survey(host, keeper, network=network, uid=uid)
    if "pid_namespace" not in ground.lacks:
        ground = ground._replace(one_user=_unshare(network=network))
    if "private_root" in ground.lacks:
        ground = ground._replace(folder=f"{temporary}/frys-{os.getpid()}-{os.urandom(8).hex()}")
        os.mkdir(ground.folder, 0o711)
    child = os.fork()
    if not child:
        _die_with(keeper)
        # From here on packets come, and who is stopped is to stay it: the kernel lets nobody go on for them.
        fcntl.fcntl(control, fcntl.F_SETFL, fcntl.fcntl(control, fcntl.F_GETFL) & ~os.O_ASYNC)
        os.close(host)
        os.close(keeper)
        return ground
    try:
        _keep(host, control, child, cgroups)
    finally:
        if ground.folder:
            remove_tree(ground.folder)
        os._exit(0)


def _host(pid: int, cgroups: list[str]) -> int:
    """See to it that this process outlives its host just long enough; a descriptor of that host.

    The signal comes when the host dies after the call (prctl(2)), so whether it is dead already is looked for
    then. Somebody may have stopped this process before it comes to this, or its children before they come to
    theirs: when the host's end of the control socket goes, the kernel lets all of them go on
    (frys_runtime/fork_server.py, `_protect`).
    """
    # A keeper that somebody has stopped would otherwise never see that the host is dead.
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGCONT)
    if os.getppid() != pid:
        _remove(cgroups)
        os._exit(1)
    return os.pidfd_open(pid)


def _die_with(keeper: int) -> None:
    """Die when the keeper does; in this order, see :func:`_host`. A zombie has its number still."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_dead(keeper):
        os._exit(1)


def _survey(host: int, keeper: int, *, network: bool, uid: int) -> Ground:
    """Try in a process that ends again what the jail will do; half a namespace could not be left.

    That process may be stopped by somebody, so its answer is not waited for any longer than the host lives.
    """
    answer, answers = os.pipe()
    child = os.fork()
    if not child:
        _die_with(keeper)
        _try_everything(answers, os.getppid(), network=network, uid=uid)
    os.close(answers)
    poller = select.poll()
    trial = os.pidfd_open(child)
    poller.register(host, select.POLLIN)
    poller.register(trial, select.POLLIN)
    poller.poll()
    if _is_dead(host):
        os._exit(1)  # and the child with it
    os.close(trial)
    with open(answer, encoding="utf-8") as file:
        said = [line.split(" ", 1) for line in file.read().splitlines()]
    os.waitpid(child, 0)
    lacks = tuple(layer for group, _ in said if group for layer in jail.NAMESPACES[group])
    return Ground(lacks, said[0][1] if said else "")


def _try_everything(answers: int, keeper: int, *, network: bool, uid: int) -> NoReturn:
    """Write a line for each group of namespaces that cannot be had; walk the jail's own steps for it.

    With another identity the kernel forgets by whose death this process dies, so that is said again.
    """
    nothing = jail.Plan(
        mounts=(),
        plugin_size=0,
        tmp_size=0,
        inodes=0,
        rlimits=(),
        landlock=0,
        lacks=(),
        network=network,
        keep_files=False,
        load_filter=b"",
        serve_filter=b"",
        probes=(),
    )
    try:
        one_user = _unshare(network=network)
    except OSError as error:
        for group in jail.NAMESPACES:
            os.write(answers, f"{group} {error.strerror}\n".encode())
        os._exit(0)
    room = jail.Jail(nothing, 0 if one_user else uid, answers, answers, [], [])
    jail.close_descriptors(room)
    for group, steps in (
        ("mounts", (jail.mount_namespace, jail.private_root)),
        ("user", (jail.identity, jail.user_namespace)),
    ):
        try:
            for step in steps:
                step(room)
                libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != keeper:
                    os._exit(1)
        except OSError as error:
            os.write(jail.LANE_FD, f"{group} {error.strerror}\n".encode())
    os._exit(0)


def _unshare(*, network: bool) -> bool:
    """Root needs no user namespace for the others, unless a container has taken the right to make them.

    Returns:
        Whether this process is in a user namespace now, which has one user.
    """
    flags = os.CLONE_NEWPID | os.CLONE_NEWNS | os.CLONE_NEWIPC | (0 if network else os.CLONE_NEWNET)
    user, group = os.geteuid(), os.getegid()
    one_user = False
    try:
        if user:
            raise PermissionError
        os.unshare(flags)
    except PermissionError:
        one_user = True
        os.unshare(flags | os.CLONE_NEWUSER)
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    return one_user


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


def remove_tree(top: str) -> None:
    """Remove a folder of plugins' files, as far as it lets itself be removed; links are not followed."""
    for folder, folders, files in os.walk(top, topdown=False):
        for name in (*files, *folders):
            path = f"{folder}/{name}"
            try:
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
            except OSError:
                continue
    try:
        os.rmdir(top)
    except OSError:
        pass
