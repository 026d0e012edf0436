"""System calls that Python has no function for.

Every wrapper raises ``OSError`` with the call's name, so that a failing step of the jail names itself.
"""

import ctypes
import os
import stat

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_NAME = 15
PR_CAPBSET_DROP, PR_SET_SECUREBITS = 24, 28
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

SECUREBITS_LOCKED = 0xEF
"""NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE on, KEEP_CAPS off, all locked (capabilities(7))."""

_NR_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
_NR_CAPSET = {"x86_64": 126, "aarch64": 91}[os.uname().machine]
_NR_CAPGET = {"x86_64": 125, "aarch64": 90}[os.uname().machine]
_NR_CLOSE_RANGE = 436
_NR_MOUNT_SETATTR = 442
_CAPABILITY_VERSION_3 = 0x20080522

_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_PROT_READ, _PROT_EXEC = 1, 4
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4


def check(name: str, result: int) -> int:
    """Turn a C result below zero into ``OSError`` that names the call."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def syscall(name: str, number: int, *args: object) -> int:
    """Make one system call; integers and ctypes objects are passed as they are.

    Raises:
        OSError: The call failed.
    """
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    # SAFETY: every pointer argument is a ctypes object that the caller keeps alive over the call.
    return check(name, _libc.syscall(ctypes.c_long(number), *wide))


def prctl(option: int, *args: int) -> int:
    """prctl(2) with integer arguments; absent ones are 0, as the kernel demands."""
    wide = [ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    # SAFETY: no pointer is passed; every option used here takes integers only.
    return check(f"prctl({option})", _libc.prctl(ctypes.c_int(option), *wide))


_python = ctypes.PyDLL(None, use_errno=True)


def fork() -> int:
    """fork(2) without Python's own hooks around it; for a process with one thread, whose child never returns.

    The hooks of ``os.fork`` reset locks that other threads could hold; there are none. They also end a
    process that has a subinterpreter, which survives a plain fork. What registers with
    ``os.register_at_fork``, such as ``random``, is not called: the child must see to its own randomness.
    """
    # SAFETY: no pointer is passed. PyDLL keeps the interpreter lock held, so the child owns it as well.
    return check("fork", _python.fork())


def ptrace_me() -> None:
    """ptrace(PTRACE_TRACEME), for :func:`frys_runtime.jail.verify`: it must fail."""
    # SAFETY: PTRACE_TRACEME ignores its pointer arguments, and NULL is passed.
    check("ptrace", _libc.ptrace(ctypes.c_long(0), ctypes.c_long(0), None, None))


def keep_library(name: str) -> None:
    """Load a shared library for good, so that what needs it later finds it among the loaded, without a file.

    Raises:
        OSError: The machine has no such library.
    """
    ctypes.CDLL(name)  # ctypes never unloads one


def set_name(name: str) -> None:
    """Set the name that ps(1) and top(1) show for this thread, at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    # SAFETY: buffer is NUL-terminated and owned here; the kernel copies at most 16 bytes of it.
    check("prctl", _libc.prctl(PR_SET_NAME, buffer, 0, 0, 0))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    # SAFETY: the four strings are bytes objects that live until the call returns; the kernel copies them.
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    check(f"mount {source} on {target}", result)


def bind(source: str, target: str, *, writable: bool = False) -> None:
    """Bind ``source`` with all below it on ``target``; no set-user-ID, no device but ``source`` itself.

    mount_setattr(2) adds flags and keeps those that the source has: in a user namespace the
    kernel refuses a remount that would drop one.
    """
    mount(source, target, "", MS_BIND | MS_REC)
    flags = _MOUNT_ATTR_NOSUID | (0 if writable else _MOUNT_ATTR_RDONLY)
    if not stat.S_ISCHR(os.stat(source).st_mode):
        flags |= _MOUNT_ATTR_NODEV
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    path = ctypes.c_char_p(target.encode())
    # SAFETY: attributes is struct mount_attr (4 x u64) and, like path, is owned here until the call ends.
    syscall("mount_setattr", _NR_MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, attributes, 32)


def umount(target: str) -> None:
    """Detach a mount at once; the kernel frees it when nobody uses it any more (umount2(2))."""
    # SAFETY: the string is a bytes object that lives until the call returns.
    check(f"umount2 {target}", _libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    new, old = ctypes.c_char_p(new_root.encode()), ctypes.c_char_p(put_old.encode())
    # SAFETY: both strings are owned by new and old until the call returns.
    syscall("pivot_root", _NR_PIVOT_ROOT, new, old)


def forbid_writing_to_code() -> int:
    """Take the write permission from every mapping that is executable, too; returns how many there were.

    libffi keeps the entry points of callbacks in such a mapping (and never writes to it again). Where even
    the heap is executable, the kernel does not tell the two apart (User-Mode Linux), and nothing is changed.
    """
    mappings: list[tuple[int, int]] = []
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            span, permissions = line.split()[:2]
            if permissions.startswith("rwx") and "[heap]" in line:
                return 0
            if permissions.startswith("rwx"):
                start, end = (int(word, 16) for word in span.split("-"))
                mappings.append((start, end - start))
    for start, size in mappings:
        # SAFETY: the kernel has just named the mapping; only its permissions change.
        result = _libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), _PROT_READ | _PROT_EXEC)
        check("mprotect", result)
    return len(mappings)


def punch_hole(fd: int, start: int, size: int) -> None:
    """Free a part of a file and keep its size (fallocate(2))."""
    mode = ctypes.c_int(_FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE)
    # SAFETY: no pointer is passed.
    check("fallocate", _libc.fallocate(ctypes.c_int(fd), mode, ctypes.c_int64(start), ctypes.c_int64(size)))


def close_range(first: int, last: int) -> None:
    """Close every descriptor from ``first`` to ``last`` (close_range(2))."""
    syscall("close_range", _NR_CLOSE_RANGE, first, last, 0)


def set_capabilities(mask: int) -> None:
    """Make ``mask`` the permitted and effective set; the inheritable set becomes empty (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    # SAFETY: header and data have the sizes that version 3 fixes (8 and 24 bytes) and are owned here.
    syscall("capset", _NR_CAPSET, header, data)


def capabilities() -> int:
    """Every capability that this thread has in its effective, permitted or inheritable set (capget(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    # SAFETY: header and data have the sizes that version 3 fixes (8 and 24 bytes) and are owned here.
    syscall("capget", _NR_CAPGET, header, data)
    return data[0] | data[1] | data[2] | (data[3] | data[4] | data[5]) << 32
