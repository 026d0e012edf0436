"""Installs with an empty cache, each killed at another moment; prints what was left as JSON.

Run as a program: it forks, and its children kill themselves at their n-th act on the cache's files (audit
events, https://docs.python.org/3/library/audit_events.html), as a power cut would. tests/market kills those
that change the folder of plugins.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sys

from frys_runtime import PluginMarketplace, PluginRegistry

ACTS = ("os.rename", "os.mkdir", "os.remove", "os.truncate", "open", "fcntl.flock")


def market(url, root, cache, folder):
    """The marketplace under test."""
    return PluginMarketplace(PluginRegistry(url, root=root, cache_dir=cache), folder)


def killed_at(number, words, plugin):
    """Install in a child that is killed at its n-th act in the cache; the number of acts left to do."""
    receive, send = os.pipe()
    child = os.fork()
    if child:
        os.close(send)
        with open(receive) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return int(said or 0)
    left = number
    cache = words[2]

    def watch(event, arguments):
        nonlocal left
        if event == "fcntl.flock" or (event in ACTS and cache in str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        asyncio.run(market(*words).install(plugin))
        os.write(send, str(left).encode())
    finally:
        os._exit(0)


def main(url, root, cache, folder, plugin):
    """Kill, and look whether the next one finishes."""
    words, endless = (url, root, cache, folder), 1 << 20
    acts = endless - killed_at(endless, words, plugin)
    states = []
    for number in sorted(random.Random(7).sample(range(1, acts), 8)):
        shutil.rmtree(cache)
        shutil.rmtree(folder)
        assert killed_at(number, words, plugin) == 0
        there = market(*words)
        before = {one.plugin: one.version for one in there.list()}
        asyncio.run(there.install(plugin))
        findings = [str(one) for one in asyncio.run(there.verify())]
        states.append([number, before, {one.plugin: one.version for one in there.list()}, findings])
    print(json.dumps({"acts": acts, "states": states}))


if __name__ == "__main__":
    main(*sys.argv[1:])
