"""The cache of a registry's client: how large it gets, what goes first, and what never goes."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import frys

from frys_runtime import ConfigError, PluginMarketplace, PluginRegistry, RegistryError
from frys_runtime.registry.cache import Cache, Hold, clear, size_of, trim
from frys_runtime.registry.client import open_cache

HERE = Path(__file__).parent

TRIM = """
import sys
from pathlib import Path
from frys_runtime.registry.cache import Cache, clear, trim

cache, everything = Cache(Path(sys.argv[1]), 0), len(sys.argv) > 2
print((clear(cache, everything=True) if everything else trim(cache)).busy)
"""


@pytest.fixture
def folder(tmp_path):
    """The folder of the cache."""
    return tmp_path / "cache"


@pytest.fixture
def client(live, root, folder):
    """Makes clients over one cache."""
    return lambda **options: PluginRegistry(live.url, root=root, cache_dir=folder, **options)


def download(registry, plugin):
    """A package, and its path in the cache."""
    return asyncio.run(registry.download_plugin(plugin))


def elsewhere(*words):
    """Make room in another process; how much was in use."""
    done = subprocess.run([sys.executable, "-c", TRIM, *words], capture_output=True, check=True)
    return int(done.stdout)


def packages(folder):
    """The packages that are in a cache."""
    return sorted(path.name for path in (folder / "packages").rglob("*.frys"))


def test_what_was_not_used_for_the_longest_time_goes_first(client, publish, folder, live):
    """Lists and packages go in the order of their last use, and no more of them than have to."""
    for plugin in ("cached-a", "cached-b", "cached-c"):
        publish(plugin)
        download(client(), plugin)
    download(client(), "cached-a")
    cache = Cache(folder)
    whole, listed = size_of(folder), cache.list_of(live.url, "cached-b")
    assert trim(cache, limit=whole).bytes == 0
    size = listed.stat().st_size
    freed = trim(cache, limit=whole - 1)
    assert (freed.bytes, freed.left, freed.busy) == (size, whole - size, 0)
    assert not listed.exists()
    trim(cache, limit=freed.left - 1)
    assert packages(folder) == ["cached-a-1.0.0.frys", "cached-c-1.0.0.frys"]
    assert download(client(offline=True), "cached-a").exists()


def test_the_limit_holds_and_what_is_used_stays(client, publish, folder, live):
    """Over the limit, what nobody uses goes: a download keeps its package, and the next one deletes it."""
    for plugin in ("limited-a", "limited-b"):
        publish(plugin)
    first = download(client(cache_limit=0), "limited-a")
    assert first.exists()
    second = download(client(cache_limit=0), "limited-b")
    assert (first.exists(), second.exists()) == (False, True)
    assert not first.parent.exists()
    assert not Cache(folder).list_of(live.url, "limited-a").exists()
    assert list((folder / "registries").rglob("timestamp.json"))
    assert download(client(), "limited-a") == first


def test_offline_goes_on_with_what_is_installed(client, publish, tmp_path, live, folder):
    """However small the cache, metadata and the lists of plugins stay for as long as these are installed."""
    for plugin in ("kept-base", "gone-app"):
        publish(plugin)
    publish("kept-app", dependencies=[{"pluginId": "kept-base", "versionRange": "^1"}])
    registry = client(cache_limit=0)
    market = PluginMarketplace(registry, tmp_path / "plugins")
    asyncio.run(market.install("kept-app"))
    download(registry, "gone-app")
    clear(open_cache(folder))
    assert packages(folder) == []
    offline = client(offline=True)
    for plugin in ("kept-app", "kept-base"):
        assert [one.version for one in asyncio.run(offline.versions(plugin))] == ["1.0.0"]
    assert asyncio.run(PluginMarketplace(offline, tmp_path / "plugins").outdated()) == []
    with pytest.raises(RegistryError, match="it is not in the cache"):
        asyncio.run(offline.versions("gone-app"))

    asyncio.run(market.uninstall("kept-app"))
    publish("another")
    asyncio.run(market.install("another"))
    assert Cache(folder).list_of(live.url, "another").exists()
    shutil.rmtree(tmp_path / "plugins")
    clear(open_cache(folder))
    assert not Cache(folder).list_of(live.url, "another").exists()


def test_another_process_deletes_nothing_that_is_used(client, publish, folder, live):
    """What an operation holds is left alone by other processes, and goes once it is let go of."""
    publish("held")
    path = download(client(), "held")
    cache, hold = Cache(folder), Hold()
    hold.folder(cache, path.parent)
    hold.folder(cache, cache.registry(live.url))
    assert elsewhere(folder) == 1
    assert elsewhere(folder, "all") == 2
    assert path.exists()
    assert list((folder / "registries").rglob("timestamp.json"))
    hold.release()
    assert elsewhere(folder, "all") == 0
    assert not path.exists()
    assert list(folder.rglob("*.json")) == []


def test_many_processes_over_a_cache_without_room(live, root, publish, folder, tmp_path):
    """Processes that install and delete under each other's hands in one cache all get what they want."""
    plugins = [f"crowded-{number}" for number in range(3)]
    for plugin in plugins:
        publish(plugin)
    running = []
    for number in range(3):
        words = [live.url, root, folder, tmp_path / str(number), 6, *plugins[number:], *plugins[:number]]
        command = [sys.executable, HERE / "crowding.py", *map(str, words)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for process in running:
        said, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
        assert json.loads(said) == [[plugins, []]] * 6


def test_what_the_killed_have_left_is_swept(client, publish, folder, live):
    """Unfinished files go as soon as somebody comes who is alone, and not before."""
    publish("swept")
    path = download(client(), "swept")
    registry, cache = Cache(folder).registry(live.url), Cache(folder)
    rubbish = [
        registry / "metadata" / "tmpab12cd34",
        registry / ".trust.json.ab12",
        registry / "indexes" / ".swept.json.ab12",
        path.with_name(".package.frys.sig.ab12"),
    ]
    for one in rubbish:
        one.write_bytes(b"{")
    hold = Hold()
    hold.folder(cache, registry)  # comes alone, and stays
    assert [one.exists() for one in rubbish] == [False, False, False, True]
    rubbish[0].write_bytes(b"{")
    download(client(), "swept")
    assert [one.exists() for one in rubbish] == [True, False, False, False]
    hold.release()


def test_what_is_not_ours_stays(folder):
    """In a folder in which somebody else keeps something, that is left alone."""
    theirs = [folder / "packages" / "readme", folder / "packages" / "mine" / "x", folder / "other" / "y"]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")
    inside = folder / "packages" / ("a" * 64)
    inside.mkdir()
    (folder / "target").write_text("theirs")
    (inside / "link").symlink_to(folder / "target")
    assert clear(Cache(folder), everything=True).busy == 0
    assert not inside.exists()
    assert all(path.exists() for path in [*theirs, folder / "target"])


def test_the_limit_is_a_setting(client, monkeypatch):
    """It is an argument, or stands in the environment; what is no size is told."""
    assert client(cache_limit=5).cache.limit == 5
    assert client().cache.limit == 1 << 30
    monkeypatch.setenv("FRYS_CACHE_LIMIT", "1.5 MiB")
    assert client().cache.limit == 3 << 19
    for text in ("much", "5 parsecs", "-1"):
        monkeypatch.setenv("FRYS_CACHE_LIMIT", text)
        with pytest.raises(ConfigError, match=r"FRYS_CACHE_LIMIT: is .* must be a number with one of B, KiB"):
            client()
    with pytest.raises(ConfigError, match="0 or more"):
        client(cache_limit=-1)


def test_the_command_shows_and_clears(live, root, publish, tmp_path):
    """`frys cache` tells what is there, and deletes as much of it as it is told."""
    publish("shown")
    environment = {"XDG_CACHE_HOME": str(tmp_path), "FRYS_REGISTRY": live.url}

    def run(*words, code=0):
        done = frys(*words, **environment)
        assert done.returncode == code, (done.stdout.decode(), done.stderr.decode())
        return done.stdout.decode() if code == 0 else done.stderr.decode()

    assert "packages: 0" in run("cache", "show")
    run("install", "shown", "--root", root, "--dir", tmp_path / "plugins")
    shown = json.loads(run("cache", "show", "--json"))
    (one,) = shown["registries"]
    assert (one["url"], one["how"], one["root_version"], one["lists"]) == (live.url, "pinned", 1, 1)
    assert sorted(one["expires"]) == ["root", "snapshot", "targets", "timestamp"]
    assert (shown["packages"]["count"], shown["limit"]) == (1, 1 << 30)
    assert shown["bytes"] == size_of(tmp_path / "frys")
    assert "packages: 1" in run("cache", "show")
    assert live.url in run("cache", "show")

    assert "0 B deleted" in run("cache", "clear", "--to", "10MiB")
    freed = json.loads(run("cache", "clear", "--json"))
    assert (freed["bytes"], freed["busy"]) == (shown["packages"]["bytes"], 0)
    run("install", "shown", "--offline", "--dir", tmp_path / "plugins")
    assert "0 B left" in run("cache", "clear", "--all")
    assert "no root of it is known here" in run(
        "install", "nothing-else", "--dir", tmp_path / "other", code=7
    )
    assert "choose one" in run("cache", "clear", "--all", "--to", "1KiB", code=2)
    assert "must be a number" in run("cache", "clear", "--to", "a bit", code=2)
