"""Why a kernel gives an ordinary user no namespaces, in words that an administrator can act on."""

import errno
import os
from pathlib import Path
from typing import Final, NamedTuple


class Obstacle(NamedTuple):
    """What stands in the way of user namespaces, and the way to remove it."""

    why: str
    how: str


# sysctl, the value with which it stands in the way, why, how.
_KNOBS: Final = (
    (
        "user.max_user_namespaces",
        "0",
        "user.max_user_namespaces is 0",
        "sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "kernel.unprivileged_userns_clone",
        "0",
        "kernel.unprivileged_userns_clone is 0 (a patch of Debian and others)",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor takes all rights inside them away (Ubuntu 23.10 and newer)",
        (
            "give this Python an AppArmor profile with the rule `userns,`, or "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        ),
    ),
)
_CONTAINER: Final = (
    "a container allows them when its seccomp and AppArmor profiles do "
    "(docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
)


def obstacle(refusal: str) -> Obstacle:
    """The setting that forbids user namespaces here.

    Args:
        refusal: What the kernel said when it was asked; the reason where no setting explains it.
    """
    for name, value, why, how in _KNOBS:
        if sysctl(name) == value:
            return Obstacle(why, how)
    if refusal == os.strerror(errno.ENOSPC):
        why = "user.max_user_namespaces of the container or user namespace around it is used up or 0"
        return Obstacle(why, "sysctl -w user.max_user_namespaces=15000 there")
    return Obstacle(f"the kernel says {refusal!r}", _CONTAINER)


def sysctl(name: str) -> str:
    """A kernel setting; empty where this kernel does not have it, or does not show it."""
    try:
        return Path("/proc/sys", name.replace(".", "/")).read_text(encoding="ascii").strip()
    except OSError:
        return ""
