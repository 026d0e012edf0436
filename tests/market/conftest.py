"""A registry that runs, for all tests of one process, and clients with caches of their own."""

import live_registry
import pytest

from frys_runtime import PluginRegistry


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A registry that serves."""
    folder = live_registry.make(tmp_path_factory.mktemp("registry") / "r")
    with live_registry.serving(folder) as served:
        yield served


@pytest.fixture
def publish(live, tmp_path):
    """Publish a version of a small plugin; its package's bytes."""
    made = tmp_path / "made"
    made.mkdir()

    def work(plugin, version="1.0.0", *, signature=None, **about):
        data = live_registry.package(made, plugin, version, **about)
        beside = {"signature": signature(data)} if signature is not None else {}
        with live.client(live.admin) as client:
            answer = live_registry.publish(client, data, **beside)
        assert answer.status_code == 201, answer.text
        return data

    return work


@pytest.fixture
def root(live):
    """The registry's first root, as its administrator gives it away."""
    with live.client() as client:
        data = client.get(f"{live.url}/tuf/metadata/1.root.json").content
    path = live.folder.with_name("root.json")
    path.write_bytes(data)
    return path


@pytest.fixture
def registry(live, root, tmp_path):
    """A client of it that knows the root."""
    return PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache", token=live.admin)
