"""Run commands as an ordinary user, also where the tests run as root from a folder that is root's alone.

Each function takes a command and returns one that runs it in other circumstances: ``plain`` as a user without
rights, ``without_user_namespaces`` where the kernel gives that user no namespace, ``container`` in a file
system, processes and one user of its own. They change nothing on the machine: the Python and the checkout are
shown in a mount namespace that ends with the command, and the limits hold in a user namespace of its own.
"""

import os
import shlex
import sys
from pathlib import Path

NOBODY = 65534
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""For the commands; what root has in its environment need not be of use for others."""

_TREES = tuple(Path(path) for path in (Path(__file__).parents[1], sys.prefix, sys.base_prefix))
_STAGE = Path("/mnt")


def plain(command: list[str]) -> list[str]:
    """As a user without any right; as the one who runs the tests, if that is not root."""
    if os.geteuid() != 0:
        return command
    drop = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return ["unshare", "--mount", "sh", "-ec", f'{_shown()}\nexec "$@"', "sh", *drop, *command]


def without_user_namespaces(command: list[str]) -> list[str]:
    """As a user whom the kernel refuses a further user namespace, as with user.max_user_namespaces=0."""
    forbid = (
        'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps -all --inh-caps -all "$@"'
    )
    enter = ["unshare", "--user", "--map-current-user", "--keep-caps"]
    return plain([*enter, "sh", "-ec", forbid, "sh", *command])


def container(command: list[str], *, user_namespaces: bool = True, proc: bool = True) -> list[str]:
    """In what a container without privileges gives: one user, no cgroups, /proc with parts of it covered."""
    return plain(
        [
            *(
                "bwrap",
                "--unshare-user",
                "--unshare-all",
                "--die-with-parent",
                "--uid",
                "1000",
                "--gid",
                "1000",
            ),
            *([] if user_namespaces else ["--disable-userns"]),
            *("--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/sys"),
            *(("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys") if proc else ("--tmpfs", "/proc")),
            *(("--tmpfs", "/proc/irq", "--ro-bind", "/dev/null", "/proc/kallsyms") if proc else ()),
            *("--tmpfs", "/tmp", *_below_tmp()),
            *command,
        ]
    )


def _below_tmp() -> list[str]:
    below = sorted({str(tree) for tree in _TREES if tree.is_relative_to("/tmp")})
    return [word for tree in below for word in ("--ro-bind", tree, tree)]


def _shown() -> str:
    """Shell lines that show the trees in a mount namespace, if a folder above them is closed for others."""
    closed = {tree: top for tree in _TREES if (top := _closed(tree))}
    paths = [path for tree, top in closed.items() for path in (tree.iterdir() if tree == top else [tree])]
    paths = [
        path
        for path in sorted(set(paths))
        if not any(path.is_relative_to(tree) for tree in paths if tree != path)
    ]
    if not paths:
        return ""
    lines = [f"mount -t tmpfs none {_STAGE}"]
    for number, path in enumerate(paths):
        lines += [_place(path, _STAGE / str(number)), f"mount --bind {_word(path)} {_STAGE}/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 none {_word(top)}" for top in sorted(set(closed.values()))]
    for number, path in enumerate(paths):
        lines += [_place(path, path), f"mount --move {_STAGE}/{number} {_word(path)}"]
    return "\n".join([*lines, f"umount {_STAGE}"])


def _closed(tree: Path) -> Path | None:
    """The outermost folder on the way to ``tree`` that others may not enter."""
    way = [*reversed(tree.parents), tree]
    return next((folder for folder in way if not folder.stat().st_mode & 0o001), None)


def _place(original: Path, place: Path) -> str:
    """A line that makes an empty file or folder to mount upon."""
    if original.is_dir():
        return f"mkdir -p {_word(place)}"
    return f"mkdir -p {_word(place.parent)}; : >{_word(place)}"


def _word(path: Path) -> str:
    return shlex.quote(str(path))
