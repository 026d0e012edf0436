"""From a registry to a plugin that runs, and to the next version of it while it is called."""

import asyncio
import functools
import json
import os
import subprocess
import sys

import pytest

from frys_runtime import PluginManager, PluginMarketplace, PluginRegistry
from frys_runtime.marketplace.lockfile import read_lock
from frys_runtime.registry.transport import Session

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
]

_CODE = """
def double(number):
    return 2 * number


def version():
    return {!r}


def healthy():
    {}
"""


def runs(test):
    """Run an async test; the registry is a process that outlives it."""

    @functools.wraps(test)
    def wrapper(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return wrapper


def code(version, health="return True"):
    """A plugin that tells its version, and how it is."""
    return _CODE.format(version, health)


@pytest.fixture
def release(publish):
    """Publish a version of a plugin that has a health function."""

    def work(plugin, version, health="return True", **about):
        publish(plugin, version, code=code(version, health), health="healthy", **about)

    return work


@pytest.fixture
def policy(tmp_path):
    """Write a policy with a rule for new versions; its path."""

    def work(which="patch", **more):
        path = tmp_path / "policy.yaml"
        rules = {"auto_update_min_age": 0, **more}
        path.write_text(
            "\n".join(["extends: high", f"auto_update: {which}", *(f"{k}: {v}" for k, v in rules.items())])
        )
        return path

    return work


class Heard:
    """The events of a manager, kept."""

    def __init__(self, manager):
        self.events = []
        self._stream = manager.events()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self):
        async for event in self._stream:
            self.events.append(event)

    async def of(self, kind, count=1):
        """The first events of a kind, once there are so many."""
        async with asyncio.timeout(60):
            while True:
                found = [event for event in self.events if event.kind == kind]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)


def installed(folder, plugin):
    """The version that is locked."""
    return read_lock(folder).plugins[plugin].version


@runs
async def test_new_versions_roll_out_under_calls(registry, release, policy, tmp_path):
    """A healthy version serves without a lost call; a sick or a minor one never does, and is not retried."""
    folder = tmp_path / "plugins"
    release("roll", "1.0.0")
    async with PluginManager(policy=policy(), registry=registry, registry_dir=folder) as manager:
        heard = Heard(manager)
        plugin = await manager.load_plugin("roll@^1.0")
        assert plugin == "roll"
        done, stop = [], asyncio.Event()

        async def call():
            while not stop.is_set():
                done.append(await manager.execute_plugin(plugin, "version"))

        callers = [asyncio.create_task(call()) for _ in range(4)]
        assert await manager.update_plugins() == []
        release("roll", "1.0.1")
        (change,) = await manager.update_plugins()
        assert (change.plugin, change.after.version) == ("roll", "1.0.1")
        assert await manager.execute_plugin(plugin, "version") == "1.0.1" == installed(folder, "roll")
        (event,) = await heard.of("updated")
        assert event.data == {"old_version": "1.0.0", "version": "1.0.1"}

        release("roll", "1.0.2", health="raise RuntimeError('sick')")
        release("roll", "1.1.0")
        assert await manager.update_plugins() == []
        (event,) = await heard.of("update_failed")
        assert (event.data["version"], event.data["step"]) == ("1.0.2", "health")
        assert await manager.execute_plugin(plugin, "version") == "1.0.1" == installed(folder, "roll")
        assert read_lock(folder).rolled_back == {"roll": ("1.0.2",)}
        assert (await heard.of("update_available"))[-1].data["latest"] == "1.1.0"
        assert await manager.update_plugins() == []
        assert len(await heard.of("update_failed")) == 1

        release("roll", "1.0.3")
        assert [one.after.version for one in await manager.update_plugins()] == ["1.0.3"]
        stop.set()
        await asyncio.gather(*callers)
        assert {"1.0.0", "1.0.1"} <= set(done) <= {"1.0.0", "1.0.1", "1.0.3"}
        assert read_lock(folder).rolled_back == {}
    assert [one.name for one in folder.rglob("*.frys")] == ["roll-1.0.3.frys"]


@runs
async def test_a_version_that_asks_for_more_does_not_come_by_itself(registry, release, policy, tmp_path):
    """One that asks for a permission more is refused with the difference; the one before it comes."""
    release("wide", "1.0.0")
    settings = {"policy": policy("any"), "registry": registry, "registry_dir": tmp_path / "plugins"}
    async with PluginManager(**settings) as manager:
        heard = Heard(manager)
        plugin = await manager.load_plugin("wide@*")
        release("wide", "1.2.0")
        release("wide", "2.0.0", permissions=["Read"])
        assert [one.after.version for one in await manager.update_plugins()] == ["1.2.0"]
        (event,) = await heard.of("update_refused")
        assert (event.data["version"], event.data["asks"]) == ("2.0.0", ["permission Read"])
        assert await manager.update_plugins() == []
        assert len(await heard.of("update_refused")) == 1
        assert await manager.execute_plugin(plugin, "version") == "1.2.0"


@runs
async def test_a_version_is_tried_on_some_calls_first(registry, publish, release, policy, tmp_path):
    """A canary that fails calls is rolled back and remembered; one that does well is installed."""
    folder = tmp_path / "plugins"
    release("trial", "1.0.0")
    rule = policy("patch", auto_update_canary="100%")
    async with PluginManager(policy=rule, registry=registry, registry_dir=folder) as manager:
        heard = Heard(manager)
        plugin = await manager.load_plugin("trial@^1")

        async def calls(count):
            many = (manager.execute_plugin(plugin, "double", one) for one in range(count))
            await asyncio.gather(*many, return_exceptions=True)

        publish("trial", "1.0.1", code=code("1.0.1").replace("2 * number", "number / 0"), health="healthy")
        assert await manager.update_plugins() == []
        await heard.of("canary_started")
        await calls(100)
        (event,) = await heard.of("update_failed")
        assert (event.data["version"], event.data["step"]) == ("1.0.1", "canary")
        assert read_lock(folder).rolled_back == {"trial": ("1.0.1",)}

        release("trial", "1.0.2")
        assert await manager.update_plugins() == []
        await heard.of("canary_started", 2)
        assert installed(folder, "trial") == "1.0.0"
        await calls(1100)
        (event,) = await heard.of("updated")
        assert event.data["version"] == "1.0.2" == installed(folder, "trial")
        release("trial", "1.0.3")
        assert await manager.update_plugins() == []
        await heard.of("canary_started", 3)
    assert installed(folder, "trial") == "1.0.2"  # a trial that its manager did not live to end


@runs
async def test_it_starts_and_serves_without_its_registry(release, policy, live, root, tmp_path):
    """What is installed is remembered by its name, loaded again without the registry, and serves on."""
    folder, state = tmp_path / "plugins", tmp_path / "state"
    release("alone-base", "1.0.0")
    needs = [{"pluginId": "alone-base", "versionRange": "^1", "optional": False}]
    release("alone", "1.0.0", dependencies=needs)
    online = PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache")
    settings = {"policy": policy(), "registry_dir": folder, "state_dir": state, "restore": True}
    async with PluginManager(registry=online, **settings) as manager:
        await manager.load_plugin("alone@^1")

    # Somebody upgraded it meanwhile: what is remembered is the name, not the file.
    release("alone", "1.0.5", dependencies=needs)
    await PluginMarketplace(online, folder).upgrade("alone")
    gone = PluginRegistry("http://127.0.0.1:9", root=root, cache_dir=tmp_path / "empty", offline=False)
    gone_settings = {**settings, "registry": gone}
    async with PluginManager(**gone_settings) as manager:
        assert manager.unrestored == {}
        heard = Heard(manager)
        assert await manager.execute_plugin("alone", "version") == "1.0.5"
        assert await manager.update_plugins() == []
        await heard.of("update_failed")
        assert await manager.execute_plugin("alone", "double", 4) == 8
        release("alone", "1.1.0", dependencies=needs)
        await PluginMarketplace(online, folder).upgrade("alone")
        assert (await manager.reload_plugin("alone")).version == "1.1.0"
        await manager.unload_plugin("alone")
        assert await manager.load_plugin("alone") == "alone"  # a bare name means what is installed


@runs
async def test_nobody_has_to_ask(registry, release, policy, tmp_path):
    """The registry is looked at after each interval, and what is new there serves."""
    folder = tmp_path / "plugins"
    release("alert", "1.0.0")
    rule = policy("minor", auto_update_interval="1s")
    async with PluginManager(policy=rule, registry=registry, registry_dir=folder) as manager:
        heard = Heard(manager)
        await manager.load_plugin("alert@^1")
        for count, version in enumerate(("1.0.1", "1.1.0"), 1):
            release("alert", version)
            assert (await heard.of("updated", count))[-1].data["version"] == version
            assert await manager.execute_plugin("alert", "version") == version


@runs
async def test_managers_that_share_a_folder_agree(registry, release, policy, tmp_path):
    """One of several managers rolls a version out; the others follow what is installed then."""
    folder = tmp_path / "plugins"
    release("shared", "1.0.0")
    rule = policy()
    made = [PluginManager(policy=rule, registry=registry, registry_dir=folder) for _ in range(2)]
    async with made[0] as one, made[1] as two:
        await one.load_plugin("shared@^1")
        await two.load_plugin("shared@^1")
        release("shared", "1.0.1")
        await asyncio.gather(one.update_plugins(), two.update_plugins())
        await asyncio.gather(one.update_plugins(), two.update_plugins())
        assert [await each.execute_plugin("shared", "version") for each in (one, two)] == ["1.0.1", "1.0.1"]
        assert installed(folder, "shared") == "1.0.1"


def test_killed_at_any_point_it_is_the_old_one_or_the_new_one(live, root, release, tmp_path):
    """A manager that dies in the middle of an update leaves one version or the other, whole."""
    release("die", "1.0.0")
    folder, cache = tmp_path / "plugins", tmp_path / "cache"
    rule = tmp_path / "rule.yaml"
    rule.write_text("extends: high\nauto_update: patch\nauto_update_min_age: 0\n")
    words = [live.url, str(root), str(cache), str(folder), str(rule)]
    program = os.path.join(os.path.dirname(__file__), "dying.py")

    def run(*more):
        done = subprocess.run(
            [sys.executable, program, *words, *more], capture_output=True, check=False, timeout=100
        )
        return done.returncode, done.stdout.decode().strip(), done.stderr.decode()

    assert run("0")[1] == "1.0.0"
    release("die", "1.0.1")
    seen = []
    for at in ("staged", "proved", "written"):
        code_, _, errors = run(at)
        assert code_ == -9, errors
        registry = PluginRegistry(live.url, root=root, cache_dir=cache)
        assert list(asyncio.run(PluginMarketplace(registry, folder).verify())) == []
        seen.append(installed(folder, "die"))
    assert seen == ["1.0.0", "1.0.0", "1.0.1"]
    assert run("0")[1] == "1.0.1"
    assert json.loads((folder / "frys.lock").read_text())["requested"] == {"die": "^1"}


def test_a_look_without_news_costs_two_small_requests(registry, publish, tmp_path, monkeypatch):
    """However many plugins are installed: the look for a newer root, and the timestamp."""
    market, asked, fetch = PluginMarketplace(registry, tmp_path / "plugins"), [], Session._fetch

    async def heard(self, url, *more, **options):
        asked.append(url.rpartition("/")[2])
        return await fetch(self, url, *more, **options)

    for plugin in ("look-one", "look-two"):
        publish(plugin)
        asyncio.run(market.install(plugin))
    monkeypatch.setattr(Session, "_fetch", heard)
    assert list(asyncio.run(market.outdated())) == []
    assert asked == ["2.root.json", "timestamp.json"]
