"""Installs where the disk is full or read-only; prints what was said and what was left as JSON.

Run as a program in a mount namespace, where ``sys.argv`` names a file system that it may fill for the
cache, and one for the plugins.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys

from frys_runtime import PluginMarketplace, PluginRegistry, RegistryError

FILLER = "filler"


def fill(folder):
    """Write until nothing goes in any more."""
    with open(os.path.join(folder, FILLER), "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def free(folder):
    """Make room again."""
    os.unlink(os.path.join(folder, FILLER))


def remount(folder, how):
    """Make a file system read-only or not."""
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def main(url, root, cache, plugins, plugin):
    """Each kind of trouble at each place, with an install or an upgrade that goes well after it."""
    found = []
    folder = os.path.join(plugins, "there")
    on_approval = []

    def approve(_):
        for act in on_approval:
            act()
        return True

    def attempt(name, version):
        registry = PluginRegistry(url, root=root, cache_dir=os.path.join(cache, "there"))
        market = PluginMarketplace(registry, folder, approve=approve)
        said = ""
        try:
            asyncio.run(market.install(plugin, version))
        except RegistryError as error:
            said = str(error)
        findings = [str(one) for one in asyncio.run(market.verify())]
        versions = [one.version for one in market.list()]
        rubbish = [
            one for one in os.listdir(os.path.join(folder, "packages")) if one[0] == "." and one != ".lock"
        ]
        found.append([name, said, versions, findings, rubbish])

    os.makedirs(os.path.join(folder, "packages"))
    for version, place in (("=1.0.0", cache), ("=1.1.0", plugins)):
        fill(place)
        attempt(f"full {version}", version)
        free(place)
        remount(place, "ro")
        attempt(f"read-only {version}", version)
        remount(place, "rw")
        attempt(f"well {version}", version)
    on_approval.append(lambda: fill(plugins))
    attempt("full at the end", "=2.0.0")
    on_approval.clear()
    free(plugins)
    attempt("well at the end", "=2.0.0")
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
