"""The jail: an ordered list of steps that a forked child takes before it meets a plugin.

The fork server that forks the child is trusted, single-threaded, and has never read a byte of a plugin.
It lives in a PID namespace and an empty network namespace of its own and gives the child another PID
namespace by the fork. The child then walks through ``STEPS`` from first to last; a step that fails ends
the child, so a plugin never runs in half a jail. ``seal()`` follows when the plugin is loaded. Each
step's docstring says why it stands where it stands; docs/jail.md lists the same steps in the same
order, and a test compares the two.

Rules that the order follows:

- Mounts are made with the fork server's rights, before the user namespace: the namespace of the plugin
  then owns none of them.
- Identity changes come before the parent-death signal, which the kernel clears on such a change
  (prctl(2)), and before the limits, which are counted per user and user namespace.
- Landlock and seccomp come last, because the steps before them need what these take away, and no thread
  exists yet: a thread made earlier would keep its rights.
"""

import _socket
import errno
import fcntl
import os
import resource
import signal
from collections.abc import Callable
from typing import NamedTuple

from .linux import landlock, libc, seccomp

LANE_FD = 3
"""Where a plugin process finds its lane; 0 is /dev/null, 1 and 2 are the log pipe."""

PLUGIN_DIR = "/plugin"
"""Where a plugin's files lie, for the formats that need them as files."""

NAMESPACES = {
    "outer": ("pid_namespace", "network_namespace"),
    "mounts": ("mount_namespace", "private_root"),
    "user": ("user_namespace", "ipc_namespace", "uts_namespace", "cgroup_namespace"),
}
"""The layers that some machines refuse to some users, in the groups in which they are refused."""

_PROC_FD = 4
_INSIDE_ID = 1000
_NEW_ROOT = "/proc"


class Plan(NamedTuple):
    """A policy made concrete for one format on this machine; the same for every child that shares it.

    Attributes:
        mounts: ``(source, target, writable)`` for every path of the host that is shown.
        plugin_size: Bytes of the private file system for the plugin's files; 0 for none.
        tmp_size: Bytes of a private ``/tmp``; 0 for none.
        inodes: Files and folders in each of these two.
        rlimits: ``(resource, value)`` with the numbers of getrlimit(2).
        landlock: The Landlock ABI to use; 0 when the kernel has none.
        lacks: The layers of ``NAMESPACES`` that this machine does not give, as the keeper found out.
        network: The fork server has left the host's network in place.
        keep_files: The files stay readable after loading; at level Maximum they do not.
        load_filter: The seccomp program under which the plugin is loaded.
        serve_filter: The seccomp program that is added when it is loaded; empty for none.
        probes: System calls that ``verify`` tries because they must not work.
    """

    mounts: tuple[tuple[str, str, bool], ...]
    plugin_size: int
    tmp_size: int
    inodes: int
    rlimits: tuple[tuple[int, int], ...]
    landlock: int
    lacks: tuple[str, ...]
    network: bool
    keep_files: bool
    load_filter: bytes
    serve_filter: bytes
    probes: tuple[str, ...]


class Jail:
    """What the steps share while one child walks through them.

    Attributes:
        plan: The plan.
        uid: The user outside; 0 when the host has no right to choose one and keeps its own.
        folder: Where the plugin's files lie: ``PLUGIN_DIR``, or a folder of the host without a private root.
        joins: Descriptors of ``cgroup.procs`` to join by.
        join_layers: The layers that these cgroups put in force.
        layers: The layers in force so far, in the words of a policy's ``require``.
        listener: The descriptor on which the kernel announces forbidden calls; 0 before there is one.
    """

    def __init__(
        self,
        plan: Plan,
        uid: int,
        lane: int,
        log: int,
        joins: list[int],
        join_layers: list[str],
        folder: str = PLUGIN_DIR,
    ) -> None:
        self.plan, self.uid, self.lane, self.log = plan, uid, lane, log
        self.joins, self.join_layers, self.folder = joins, join_layers, folder
        self.outside = (uid, uid) if uid else (os.getuid(), os.getgid())
        outer = NAMESPACES["outer"][: 1 if plan.network else 2]
        self.layers = [layer for layer in outer if layer not in plan.lacks]
        self.listener = 0

    def enter(self) -> None:
        """Take every step.

        Raises:
            OSError: A step failed; the message begins with the step's name. The process must end then.
        """
        for step in STEPS:
            try:
                step(self)
            except OSError as error:
                where = f" ({error.filename})" if error.filename else ""
                raise OSError(error.errno, f"{step.__name__}: {error.strerror or error}{where}") from error


def join_cgroup(jail: Jail) -> None:
    """Join the cgroups first: whatever the later steps use is charged to the plugin already."""
    for fd in jail.joins:
        os.write(fd, b"0")
    jail.layers += jail.join_layers


def close_descriptors(jail: Jail) -> None:
    """Keep the lane, the log and /proc and close all else, before anything could leak further in."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY)
    high = [_lift(fd) for fd in (null, jail.log, jail.log, jail.lane, proc)]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=False)
    libc.close_range(len(high), 0x7FFFFFFF)


def _lift(fd: int) -> int:
    """A copy of ``fd`` above all targets, so that no dup2 closes what a later one needs."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


def new_session(jail: Jail) -> None:
    """Leave the host's session and signal settings; be the first that an out-of-memory kill takes."""
    os.setsid()
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _write_proc("oom_score_adj", b"1000")


def _write_proc(name: str, data: bytes) -> None:
    fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=_PROC_FD)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def mount_namespace(jail: Jail) -> None:
    """Unshare the mounts while the fork server's rights are still here, which making a root needs."""
    if "mount_namespace" in jail.plan.lacks:
        return
    os.unshare(os.CLONE_NEWNS)
    jail.layers.append("mount_namespace")


def private_root(jail: Jail) -> None:
    """Build an empty root, show in it what the plan grants, and make it the only one (pivot_root(2)).

    The new root is mounted over /proc because no granted path can lie below that; the descriptor
    that was opened before still reaches the real one. Where the machine gives no mount namespace, Landlock
    alone decides about files; a policy that does not require a private root accepts that.
    """
    if "private_root" in jail.plan.lacks:
        return
    flags = libc.MS_NOSUID | libc.MS_NODEV
    libc.mount("frys", _NEW_ROOT, "tmpfs", flags | libc.MS_NOEXEC, "size=256k,nr_inodes=512,mode=0755")
    owner = f"uid={jail.outside[0]},gid={jail.outside[1]},mode=0700"
    for path, size, extra in (
        (PLUGIN_DIR, jail.plan.plugin_size, 0),
        ("/tmp", jail.plan.tmp_size, libc.MS_NOEXEC),  # noqa: S108 - the name inside the private root
    ):
        if size:
            os.mkdir(_NEW_ROOT + path)
            room = f"size={size},nr_inodes={jail.plan.inodes}"
            libc.mount("frys", _NEW_ROOT + path, "tmpfs", flags | extra, f"{room},{owner}")
    for source, target, writable in jail.plan.mounts:
        _show(source, _NEW_ROOT + target, writable=writable)
    read_only = libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | libc.MS_NOEXEC
    libc.mount("frys", _NEW_ROOT, "", read_only | flags)
    os.chdir(_NEW_ROOT)
    libc.pivot_root(".", ".")
    libc.umount(".")
    os.chdir("/")
    jail.layers.append("private_root")


def _show(source: str, target: str, *, writable: bool) -> None:
    if os.path.islink(source) and os.path.isdir(source):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    libc.bind(source, target, writable=writable)


def identity(jail: Jail) -> None:
    """Become a user that owns nothing, before the user namespace, so that the outside id is not root."""
    if not jail.uid:
        return
    os.setgroups([])
    os.setresgid(jail.uid, jail.uid, jail.uid)
    os.setresuid(jail.uid, jail.uid, jail.uid)
    # The kernel made the process undumpable; its /proc files must be its own to write the id maps.
    libc.prctl(libc.PR_SET_DUMPABLE, 1)


def user_namespace(jail: Jail) -> None:
    """Enter a user namespace that maps one id, with IPC, UTS and cgroup namespaces that belong to it."""
    if "user_namespace" in jail.plan.lacks:
        os.close(_PROC_FD)
        return
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP)
    user, group = jail.outside
    _write_proc("setgroups", b"deny")
    _write_proc("uid_map", b"%d %d 1" % (_INSIDE_ID, user))
    _write_proc("gid_map", b"%d %d 1" % (_INSIDE_ID, group))
    os.close(_PROC_FD)
    _socket.sethostname("frys")
    jail.layers += ["user_namespace", "ipc_namespace", "uts_namespace", "cgroup_namespace"]


def resource_limits(jail: Jail) -> None:
    """Set the rlimits inside the user namespace, where processes are counted for this plugin alone."""
    for number, value in jail.plan.rlimits:
        resource.setrlimit(number, (value, value))
    jail.layers.append("rlimits")


def drop_capabilities(jail: Jail) -> None:
    """Give up every capability for good; from here on nothing can be mounted, mapped or entered.

    An ordinary user in no user namespace has none, and may not (and need not) lock that.
    """
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    if not libc.capabilities() and "user_namespace" in jail.plan.lacks:
        jail.layers.append("capabilities")
        return
    for number in range(64):
        try:
            libc.prctl(libc.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break
    libc.prctl(libc.PR_SET_SECUREBITS, libc.SECUREBITS_LOCKED)
    libc.set_capabilities(0)
    jail.layers.append("capabilities")


def parent_death(jail: Jail) -> None:
    """Die with the fork server; after the identity changes, on which the kernel forgets this."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)


def no_new_privileges(jail: Jail) -> None:
    """No program can raise its rights again, no core is dumped, nobody of the same user may trace."""
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    jail.layers.append("no_new_privs")


def landlock_files(jail: Jail) -> None:
    """Deny by Landlock all that the private root does not mean to give; needs no_new_privs."""
    if jail.plan.landlock:
        _restrict(jail.plan, _rules(jail, loading=True))
        jail.layers.append("landlock")


def _restrict(plan: Plan, rules: list[tuple[str, int]]) -> None:
    landlock.restrict(rules, plan.landlock, network=plan.network)


def _rules(jail: Jail, *, loading: bool) -> list[tuple[str, int]]:
    plan = jail.plan
    all_rights = landlock.everything(plan.landlock)
    rules = [(target, all_rights if rw else landlock.LOADABLE) for _, target, rw in plan.mounts]
    if plan.plugin_size:
        rules.append((jail.folder, all_rights if loading else landlock.LOADABLE))
    if "private_root" in plan.lacks:
        return rules  # the real /tmp is everybody's
    if plan.tmp_size:
        rules.append(("/tmp", all_rights & ~landlock.EXECUTE))  # noqa: S108
    return [rule for rule in rules if not os.path.islink(rule[0])]


def seccomp_filter(jail: Jail) -> None:
    """Leave only the system calls that loading needs; last, because every step above needs more."""
    jail.listener = seccomp.install(jail.plan.load_filter, listener=True)
    jail.layers.append("seccomp")


STEPS: tuple[Callable[[Jail], None], ...] = (
    join_cgroup,
    close_descriptors,
    new_session,
    mount_namespace,
    private_root,
    identity,
    user_namespace,
    resource_limits,
    drop_capabilities,
    parent_death,
    no_new_privileges,
    landlock_files,
    seccomp_filter,
)


def verify(jail: Jail) -> list[str]:
    """Try what must not work, after the host has begun to listen.

    Returns:
        What worked all the same, one phrase each; empty in a sound jail. The host refuses the child
        unless it is empty, and unless it has itself seen the forbidden system calls announced.
    """
    broken = []
    if os.getpid() != 1 and "pid_namespace" not in jail.plan.lacks:
        broken.append("the process is not the first of its PID namespace")
    if libc.capabilities():
        broken.append("capabilities are left")
    if libc.prctl(libc.PR_GET_NO_NEW_PRIVS) != 1:
        broken.append("no_new_privs is not set")
    outside = ("/proc/1/status", "/sys/kernel", "/etc/shadow")
    broken += [f"{path} can be opened" for path in outside if _opens(path)]
    broken += [f"the system call {name} is allowed" for name in jail.plan.probes if _works(_PROBES[name])]
    return broken


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


_PROBES: dict[str, Callable[[], object]] = {
    "unshare": lambda: os.unshare(os.CLONE_NEWUSER),
    "socket": lambda: _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0),
    "ptrace": libc.ptrace_me,
    "mount": lambda: libc.mount("none", "/", "tmpfs", 0),
}


def protect_files(jail: Jail) -> None:
    """Make the plugin's own files read-only for it, once the launcher has written them."""
    if jail.plan.landlock:
        _restrict(jail.plan, _rules(jail, loading=False))


def seal(plan: Plan) -> None:
    """Take away what only loading needed: the files, and the system calls that serving does without.

    Raises:
        OSError: The kernel refused; the process must end then.
    """
    if plan.landlock and not plan.keep_files:
        _restrict(plan, [])
    if plan.serve_filter:
        seccomp.install(plan.serve_filter, listener=False)
