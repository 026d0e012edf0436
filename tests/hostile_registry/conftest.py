"""A registry that runs, a proxy before it that lies as told, and victims, who install plugins."""

import asyncio
import hashlib
import itertools
from pathlib import Path

import live_registry
import pytest
from tampering import tampering

from frys_runtime import PluginMarketplace, PluginRegistry, RegistryError
from frys_runtime.registry.transport import Patience


class Victim:
    """Somebody who installs plugins from where an attacker sits, with the right root."""

    def __init__(self, url, folder, **options):
        self.options = {"cache_dir": folder / "cache", **options}
        self.url, self.folder = url, folder
        self.registry = PluginRegistry(url, **self.options)
        self.market = PluginMarketplace(self.registry, folder / "plugins", approve=lambda _: True)

    def install(self, plugin, version=None):
        """Install or upgrade, and say what is there afterwards."""
        asyncio.run(self.market.install(plugin, version))
        return self.versions()

    def versions(self):
        """What is installed, all of it verified."""
        assert asyncio.run(self.market.verify()) == []
        return {one.plugin: one.version for one in self.market.list()}

    def state(self):
        """Every file of the folder with its digest."""
        files = sorted(path for path in (self.folder / "plugins").rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def refuses(self, plugin, attack, match, version=None):
        """Refuse to install, by name of the attack and with a sentence, and leave everything as it was."""
        asyncio.run(self.market.verify())
        before = {path: digest for path, digest in self.state().items() if not path.endswith(".lock")}
        with pytest.raises(RegistryError, match=match) as refused:
            asyncio.run(self.market.install(plugin, version))
        after = {path: digest for path, digest in self.state().items() if not path.endswith(".lock")}
        assert after == before
        assert refused.value.attack == attack, refused.value
        assert f"{attack} attack" in str(refused.value) or attack in ("", "wrong keys"), refused.value
        text = str(refused.value)
        assert text.isprintable(), text
        assert not list((self.folder / "cache").rglob("*.new*"))
        return refused.value


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """A registry that serves."""
    folder = live_registry.make(tmp_path_factory.mktemp("registry") / "r", writesBurst=10000)
    with live_registry.serving(folder) as served:
        yield served


@pytest.fixture(scope="session")
def root(live):
    """The registry's first root, as its administrator gives it away."""
    path = live.folder.with_name("root.json")
    with live.client() as client:
        path.write_bytes(client.get(f"{live.url}/tuf/metadata/1.root.json").content)
    return path


@pytest.fixture(scope="session")
def between(live):
    """The proxy of all tests of a process."""
    with tampering(live.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(between):
    """A proxy that is honest in the beginning."""
    between.honest()
    between.forget()
    yield between
    between.honest()


@pytest.fixture
def victim_of(root, tmp_path):
    """What makes a victim of an address."""

    def make(url, name="victim", **options):
        named = {"root": root, "patience": Patience(grace=10, silence=2.5), **options}
        return Victim(url, tmp_path / name, **named)

    return make


@pytest.fixture
def victim(proxy, victim_of):
    """A victim behind the proxy."""
    return victim_of(proxy.url)


@pytest.fixture
def hasty(proxy, victim_of):
    """The same, who loses patience soon."""
    return victim_of(proxy.url, patience=Patience(grace=0.8, silence=0.8))


@pytest.fixture(scope="session")
def packed(live, tmp_path_factory):
    """The package of :func:`prey`."""
    data = live_registry.package(tmp_path_factory.mktemp("prey"), "prey")
    with live.client(live.admin) as client:
        assert live_registry.publish(client, data).status_code == 201
    return data


@pytest.fixture
def prey(packed):
    """The id of a plugin that is published once for all, for tests that change nothing about it."""
    assert packed
    return "prey"


_NUMBERS = itertools.count()


@pytest.fixture
def publish(live, tmp_path):
    """Publish a version of a small plugin; its package's bytes."""
    made = tmp_path / "made"
    made.mkdir()

    def work(plugin, version="1.0.0", **about):
        data = live_registry.package(made, plugin, version, **about)
        with live.client(live.admin) as client:
            answer = live_registry.publish(client, data)
        assert answer.status_code == 201, answer.text
        return data

    return work


@pytest.fixture
def plugin(request):
    """An id that no other test has."""
    return f"prey-{next(_NUMBERS)}-{Path(request.node.fspath).stem.removeprefix('test_').replace('_', '-')}"
