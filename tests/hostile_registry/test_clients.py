"""Clients in trouble: killed, without room, several at once, with a wrong clock, misled by names."""

import asyncio
import datetime
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import live_registry
import pytest
from command import FRYS
from tampering import lie

from frys_runtime import PluginError, PluginMarketplace, PluginRegistry, RegistryError
from frys_runtime.marketplace import planning

HERE = Path(__file__).parent


def program(name, *words, before=()):
    """Run a program beside this file; what it found."""
    command = [*before, sys.executable, HERE / name, *words]
    done = subprocess.run(command, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_killed_while_it_fetches(live, root, publish, plugin, tmp_path):
    """Killed at points all over its work on the cache, nothing is installed, and the next one finishes."""
    publish(f"{plugin}-base")
    publish(plugin, dependencies=[{"pluginId": f"{plugin}-base", "versionRange": "^1"}])
    found = program("killed.py", live.url, root, tmp_path / "cache", tmp_path / "plugins", plugin)
    assert found["acts"] > 30
    whole = {plugin: "1.0.0", f"{plugin}-base": "1.0.0"}
    for number, before, after, findings in found["states"]:
        assert before in ({}, whole), number
        assert (after, findings) == (whole, []), number


@pytest.mark.needs_own_network
def test_without_room(live, root, publish, plugin, tmp_path):
    """A full or read-only disk, under the cache, the plugins or the lock, is told and changes nothing."""
    publish(plugin)
    publish(plugin, "1.1.0")
    publish(plugin, "2.0.0", permissions=["Network"])
    cache, plugins = tmp_path / "cache", tmp_path / "plugins"
    cache.mkdir()
    plugins.mkdir()
    mounts = " && ".join(f"mount -t tmpfs -o size=400k none {one}" for one in (cache, plugins))
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    found = program("no_room.py", live.url, root, cache, plugins, plugin, before=before)
    assert [(name, versions) for name, _, versions, _, _ in found] == [
        ("full =1.0.0", []), ("read-only =1.0.0", []), ("well =1.0.0", ["1.0.0"]),
        ("full =1.1.0", ["1.0.0"]), ("read-only =1.1.0", ["1.0.0"]), ("well =1.1.0", ["1.1.0"]),
        ("full at the end", ["1.1.0"]), ("well at the end", ["2.0.0"]),
    ]  # fmt: skip
    for name, said, _, findings, rubbish in found:
        assert (findings, rubbish) == ([], []), name
        reason = {"full": "No space left on device", "read": "Read-only file system", "well": ""}[name[:4]]
        assert reason in said, name
        assert bool(said) == bool(reason), name


def test_two_installers_at_once(live, root, publish, plugin, tmp_path):
    """Processes that install into one folder over one cache all finish, and all that they wanted is there."""
    ids = [f"{plugin}-{number}" for number in range(2)]
    for one in ids:
        publish(one)
    words = ["--registry", live.url, "--root", root, "--dir", tmp_path / "plugins"]
    running = [
        subprocess.Popen(
            [*FRYS, "install", one, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        for one in ids
    ]
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    market = PluginMarketplace(PluginRegistry(live.url, root=root, cache_dir=tmp_path), tmp_path / "plugins")
    assert [one.plugin for one in market.list()] == sorted(ids)
    assert asyncio.run(market.verify()) == []


def test_many_publish_one_version(live, root, tmp_path, plugin):
    """Of several who publish different bytes as one version one wins, and the others are told so."""
    packages = []
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        live_registry.package(folder, plugin, description=f"of publisher {number}")
        packages.append(folder / f"{plugin}-1.0.0")
    start = Barrier(6)

    def publish(source):
        registry = PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache", token=live.admin)
        start.wait()
        try:
            return asyncio.run(registry.publish_plugin(source)).sha256
        except RegistryError as error:
            return error.reason

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(publish, packages))
    won = [one for one in told if "is published already" not in one]
    assert len(won) == 1
    registry = PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache")
    (release,) = asyncio.run(registry.versions(plugin))
    assert [release.sha256] == won
    asyncio.run(registry.download_plugin(plugin))


def test_many_publish_versions_of_one_plugin(live, root, tmp_path, publish, plugin):
    """Different versions that are published at once are all there, listed in order and verified."""
    versions = [f"1.{number}.0" for number in range(8)]
    sources = [(version, tmp_path / version) for version in versions]
    for version, folder in sources:
        folder.mkdir()
        live_registry.package(folder, plugin, version)
    start = Barrier(len(versions))

    def work(one):
        registry = PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache", token=live.admin)
        start.wait()
        asyncio.run(registry.publish_plugin(one[1] / f"{plugin}-{one[0]}"))

    with ThreadPoolExecutor(len(versions)) as pool:
        list(pool.map(work, sources))
    registry = PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache")
    assert [one.version for one in asyncio.run(registry.versions(plugin))] == versions[::-1]
    for version in (versions[0], versions[-1]):
        asyncio.run(registry.download_plugin(plugin, version))


def test_a_clock_that_is_behind_and_a_minimum_age(victim, prey, monkeypatch):
    """What was published after the time that this machine's clock shows is not old enough, and told so."""

    class Earlier(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) - datetime.timedelta(days=400)

    careful = PluginMarketplace(victim.registry, victim.folder / "plugins", min_age=60)
    with monkeypatch.context() as earlier:
        earlier.setattr(planning, "datetime", Earlier)
        with pytest.raises(PluginError, match=r"after the time .* that this machine's clock shows"):
            asyncio.run(careful.install(prey))
    assert victim.install(prey) == {prey: "1.0.0"}


@pytest.mark.parametrize(
    "confuse",
    [
        str.upper, str.title, lambda name: name + ".", lambda name: name + " ", lambda name: " " + name,
        lambda name: name.replace("e", "\u0435"), lambda name: name.replace("p", "\uff50"),
        lambda name: name + "\u200b", lambda name: name + "\0", lambda name: name + "\n",
        lambda name: f"../{name}", lambda name: f"{name}/../{name}", lambda name: f"{name}%2e%2e",
        lambda name: f"{name}/index.json", lambda name: f"file:///{name}", lambda name: name * 40,
    ],
    ids=range(16),
)  # fmt: skip
def test_names_that_look_like_another(victim, proxy, prey, packed, confuse):
    """A name that only looks like a prey's is none of it, however willing the registry is to confuse them."""
    data = packed
    other = confuse(prey)
    with_index = PluginRegistry(proxy.url, **victim.options)
    index = asyncio.run(with_index.index(prey))
    assert index is not None
    (listed,) = [path for path in proxy.tape if path.endswith("index.json") and f"/{prey}/" in path]
    proxy.tell(r"/tuf/targets/.*\.json", lie(body=proxy.tape[listed].body))
    proxy.tell(r"/tuf/targets/.*\.frys", lie(body=data))
    for asked in (with_index.download_plugin(other), victim.market.install(other)):
        with pytest.raises(PluginError) as refused:
            asyncio.run(asked)
        assert str(refused.value).isprintable()
    assert victim.versions() == {}
    assert sorted((victim.folder / "plugins").rglob("*.frys")) == []
