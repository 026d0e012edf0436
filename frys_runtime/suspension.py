"""Freezing the processes of one instance, and letting them go on."""

import asyncio
import signal
from contextlib import suppress

from .errors import SandboxError
from .launcher import Child
from .linux import process
from .linux.cgroup import CgroupError


async def freeze(child: Child, plugin_id: str, *, may_fork: bool) -> None:
    """Stop a plugin's processes where they are; returns when none runs.

    Args:
        child: Its first process.
        plugin_id: For errors.
        may_fork: There may be others.

    Raises:
        SandboxError: The kernel refuses, or its processes are not all known.
    """
    if child.cgroup is not None:
        try:
            await asyncio.to_thread(child.cgroup.freeze)
        except CgroupError as error:
            raise SandboxError(f"{plugin_id} cannot be suspended: {error}") from error
    elif may_fork:
        raise SandboxError(
            f"{plugin_id} cannot be suspended: it may have processes that only a cgroup could find"
        )
    else:
        process.send_signal(child.pidfd, signal.SIGSTOP)
        while not process.is_stopped(child.pid):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)


async def thaw(child: Child) -> None:
    """Let them go on; nothing happens where they are not frozen."""
    if child.cgroup is None:
        process.send_signal(child.pidfd, signal.SIGCONT)
        return
    with suppress(CgroupError):  # somebody removed it, which the kernel allows only when it is empty
        await asyncio.to_thread(child.cgroup.thaw)
