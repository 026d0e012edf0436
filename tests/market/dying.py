"""A manager that loads a plugin, updates it, and dies where it is told: a program."""

import asyncio
import os
import signal
import sys

from frys_runtime import PluginManager, PluginRegistry
from frys_runtime.marketplace.store import Transaction
from frys_runtime.reload import Reloader

url, root, cache, folder, rule, at = sys.argv[1:]


def die(*_, **__):
    """End as in a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def dies_around(kind, name, *, after):
    """Have a method end the process before it begins, or when it has done its work."""
    method = getattr(kind, name)

    if asyncio.iscoroutinefunction(method):

        async def last(*words, **options):
            if after:
                await method(*words, **options)
            die()

    else:

        def last(*words, **options):
            if after:
                method(*words, **options)
            die()

    setattr(kind, name, last)


async def main():
    """Load, then update."""
    registry = PluginRegistry(url, root=root, cache_dir=cache)
    async with PluginManager(policy=rule, registry=registry, registry_dir=folder) as manager:
        plugin = await manager.load_plugin("die@^1")
        print(await manager.execute_plugin(plugin, "version"), flush=True)
        if at != "0":
            dying = {"staged": (Reloader, False), "proved": (Reloader, True), "written": (Transaction, True)}
            kind, after = dying[at]
            dies_around(kind, "reload" if kind is Reloader else "commit", after=after)
            await manager.update_plugins()


if __name__ == "__main__":
    asyncio.run(main())
