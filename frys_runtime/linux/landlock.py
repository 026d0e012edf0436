"""Landlock: what files a process may reach, by the kernel's own path walk (landlock(7)).

It does not mediate stat, access, chmod or a descriptor that was opened before, so it stands beside
the private root, never instead of it.
"""

import ctypes
import os

from .libc import syscall

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_RULE_PATH_BENEATH = 1
_O_PATH = 0o10000000
_LOG_NEW_EXEC_ON = 2  # denials of programs that a plugin starts are told, too; landlock_log.py

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
READ = READ_FILE | READ_DIR
LOADABLE = READ | EXECUTE

_FS_BITS = (0, 13, 14, 15, 15, 16, 16, 16, 16, 17, 17)
"""How many file rights each ABI knows; index is the ABI."""


def abi() -> int:
    """The Landlock ABI of this kernel; 0 when it has none or it is switched off."""
    try:
        return syscall("landlock_create_ruleset", _CREATE, None, 0, 1)
    except OSError:
        return 0


def restrict(rules: list[tuple[str, int]], version: int, *, network: bool) -> None:
    """Deny every file, TCP port, abstract socket and outside signal, but for ``rules``.

    Args:
        rules: Paths of this mount namespace with the rights that hold beneath them.
        version: The ABI to use, from :func:`abi`; at least 1.
        network: Leave TCP ports alone.

    Raises:
        OSError: The kernel refused; nothing is in force then.
    """
    every = (1 << _FS_BITS[min(version, len(_FS_BITS) - 1)]) - 1
    ports = 3 if version >= 4 and not network else 0
    scopes = 3 if version >= 6 else 0
    attributes = (ctypes.c_uint64 * 3)(every, ports, scopes)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    # SAFETY: attributes is struct landlock_ruleset_attr, owned here; size is what this ABI knows of it.
    ruleset = syscall("landlock_create_ruleset", _CREATE, attributes, size, 0)
    try:
        for path, rights in rules:
            _add(ruleset, path, rights & every)
        syscall("landlock_restrict_self", _RESTRICT, ruleset, _LOG_NEW_EXEC_ON if version >= 7 else 0)
    finally:
        os.close(ruleset)


def everything(version: int) -> int:
    """Every file right that ABI ``version`` knows, but for making devices."""
    make_devices = 1 << 6 | 1 << 11
    return ((1 << _FS_BITS[min(version, len(_FS_BITS) - 1)]) - 1) & ~make_devices


def _add(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, _O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(rights.to_bytes(8, "little") + fd.to_bytes(4, "little"), 12)
        # SAFETY: rule is the packed struct landlock_path_beneath_attr (12 bytes), owned here.
        syscall("landlock_add_rule", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
