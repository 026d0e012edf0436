"""Changes of a marketplace, each killed at another moment; prints what was left as JSON.

Run as a program: it forks, and its children kill themselves at their n-th act on the disk (audit events of
https://docs.python.org/3/library/audit_events.html), as a power cut or an impatient administrator would.
"""

import asyncio
import json
import os
import signal
import sys

from frys_runtime import PluginMarketplace, PluginRegistry

ACTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "open")


def market(url, cache, folder):
    """The marketplace under test, which approves everything."""
    return PluginMarketplace(PluginRegistry(url, cache_dir=cache), folder, approve=lambda _: True)


def killed_at(number, url, cache, folder, plugin, version):
    """Install in a child that is killed at its n-th act in the folder; whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = number

    def watch(event, arguments):
        nonlocal left
        if event in ACTS and any(folder in str(one) for one in arguments[:2]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        asyncio.run(market(url, cache, folder).install(plugin, version))
    finally:
        os._exit(0)


def state(url, cache, folder):
    """What is installed, what is wrong with it, and the files that are there."""
    there = market(url, cache, folder)
    return {
        "plugins": {one.plugin: one.version for one in there.list()},
        "findings": [str(one) for one in asyncio.run(there.verify())],
    }


def main(url, cache, folder, plugin, old, new):
    """Kill upgrades from the old version to the new one, each a step later than the one before."""
    states = []
    for number in range(1, 200):
        asyncio.run(market(url, cache, folder).install(plugin, old))
        finished = killed_at(number, url, cache, folder, plugin, new)
        states.append(state(url, cache, folder))
        if finished:
            break
    asyncio.run(market(url, cache, folder).install(plugin, new))
    left = sorted(os.listdir(os.path.join(folder, "packages")) + os.listdir(folder))
    print(json.dumps({"states": states, "left": left}))


if __name__ == "__main__":
    main(*sys.argv[1:])
