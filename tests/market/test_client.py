"""PluginRegistry against a registry that runs: what it finds, what it believes, and what it refuses."""

import asyncio
import datetime
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import live_registry
import pytest
from command import frys
from live_registry import serving
from tampering import tampering
from tuf.ngclient._internal import trusted_metadata_set

from frys_runtime import ConfigError, PluginRegistry, RegistryError
from frys_runtime.package import open_package
from frys_runtime.registry import repository
from frys_runtime.registry.transport import Patience


def run(awaitable):
    """Wait for something."""
    return asyncio.run(awaitable)


def export(live, target):
    """The registry as files, as it is now."""
    done = frys("registry", "export", live.folder, target)
    assert done.returncode == 0, done.stderr.decode()
    return target


def test_publish_search_look_and_download(registry, live, tmp_path):
    """A package is published, found, described, counted and downloaded, by awaiting methods of one object."""
    data = live_registry.package(tmp_path, "client-words", "1.2.0", description="data-processing of words")
    (tmp_path / "words.frys").write_bytes(data)

    async def scenario():
        async with registry:
            published = await registry.publish_plugin(tmp_path / "words.frys")
            assert (published.id, published.version) == ("client-words", "1.2.0")
            with pytest.raises(RegistryError, match="is published already"):
                await registry.publish_plugin(tmp_path / "client-words-1.2.0")  # the folder, the same bytes
            found = await registry.search_plugins("data-processing", 10)
            assert [one.id for one in found] == ["client-words"]
            assert (await registry.get_plugin("client-words")).latest.version == "1.2.0"
            assert (await registry.stats()).plugins >= 1
            (release,) = await registry.versions("client-words")
            assert release.sha256 == hashlib.sha256(data).hexdigest()
            assert await registry.versions("nobody-has-this") == []
            path = await registry.download_plugin("client-words", "^1", tmp_path / "out")
            assert path.read_bytes() == data
            for version in ("^2", "9.9.9"):
                with pytest.raises(
                    RegistryError, match=r"no version of client-words fits .*; there are 1\.2\.0"
                ):
                    await registry.download_plugin("client-words", version)
            with pytest.raises(RegistryError, match="it has no plugin 'nobody'"):
                await registry.download_plugin("nobody")
            with pytest.raises(RegistryError, match="there is no plugin"):
                await registry.get_plugin("nobody")

    run(scenario())


def test_yanked_versions_are_taken_by_name_only(registry, live, publish):
    """A range passes a yanked version by; its exact number still gets it."""
    publish("yanked-one")
    newer = publish("yanked-one", "1.1.0")
    with live.client(live.admin) as client:
        assert client.put("/plugins/yanked-one/versions/1.1.0/yank", json={"reason": "broken"}).json()[
            "changed"
        ]

    assert open_package(run(registry.download_plugin("yanked-one"))).metadata.version == "1.0.0"
    assert run(registry.download_plugin("yanked-one", "1.1.0")).read_bytes() == newer


def test_nothing_is_believed_without_a_root(live, root, publish, tmp_path, caplog):
    """No root: refused; a digest or first use: taken and remembered; another one: refused as wrong keys."""
    publish("rooted")
    digest = hashlib.sha256(root.read_bytes()).hexdigest()

    def client(cache, **options):
        return PluginRegistry(live.url, cache_dir=tmp_path / cache, **options)

    with pytest.raises(RegistryError, match="no root of it is known here"):
        run(client("a").versions("rooted"))
    with pytest.raises(RegistryError, match="is not the registry that was meant") as refused:
        run(client("a", root=f"sha256:{'0' * 64}").versions("rooted"))
    assert refused.value.attack == "wrong keys"
    assert len(run(client("a", root=f"sha256:{digest}").versions("rooted"))) == 1
    assert len(run(client("a").versions("rooted"))) == 1  # known from now on
    assert not caplog.records
    assert len(run(client("b", trust_on_first_use=True).versions("rooted"))) == 1
    assert digest in caplog.text
    assert len(run(client("b").versions("rooted"))) == 1
    with pytest.raises(ConfigError, match="is no root of a TUF repository"):
        run(client("c", root=live.folder / "registry.json").versions("rooted"))


def test_the_root_of_another_registry_is_refused(live, tmp_path):
    """A registry whose metadata is not signed by the keys of the trusted root is refused as wrong keys."""
    other = live_registry.make(tmp_path / "other")
    with serving(other) as elsewhere:
        root = tmp_path / "root.json"
        with elsewhere.client() as client:
            root.write_bytes(client.get(f"{elsewhere.url}/tuf/metadata/1.root.json").content)
    with pytest.raises(RegistryError) as refused:
        run(PluginRegistry(live.url, root=root, cache_dir=tmp_path / "cache").versions("any"))
    assert refused.value.attack == "wrong keys"


def test_a_stale_mirror_is_a_rollback_and_the_next_is_asked(live, root, publish, tmp_path):
    """Who has seen newer metadata refuses a mirror that lags behind, and goes on with the next one."""
    publish("mirrored")
    stale = export(live, tmp_path / "stale")
    newest = publish("mirrored", "1.1.0")
    options = {"root": root, "cache_dir": tmp_path / "cache"}
    assert run(PluginRegistry(live.url, **options).download_plugin("mirrored")).read_bytes() == newest

    for cached in (tmp_path / "cache" / "packages").rglob("mirrored-*"):
        cached.unlink()
    # The same cache, as of a registry whose address the mirror has now.
    cache = next((tmp_path / "cache" / "registries").iterdir())
    cache.rename(cache.with_name(hashlib.sha256(stale.as_uri().encode()).hexdigest()[:16]))
    with pytest.raises(RegistryError, match="it looks like a rollback attack") as refused:
        run(PluginRegistry(stale, **options).download_plugin("mirrored"))
    assert refused.value.attack == "rollback"
    both = PluginRegistry(stale, mirrors=[live.url], **options)
    assert run(both.download_plugin("mirrored")).read_bytes() == newest


def test_a_mirror_with_other_bytes_is_passed_by(live, root, publish, tmp_path):
    """A folder whose package was altered is refused as arbitrary software; with a good mirror it goes on."""
    data = publish("altered")
    folder = export(live, tmp_path / "files")
    (package,) = (folder / "targets").rglob("*.altered-1.0.0.frys")
    package.write_bytes(data[:-1] + b"?")
    options = {"root": root, "cache_dir": tmp_path / "cache"}
    with pytest.raises(RegistryError, match="arbitrary software attack"):
        run(PluginRegistry(folder, **options).download_plugin("altered"))
    assert not list((tmp_path / "cache" / "packages").rglob("*.part"))
    both = PluginRegistry(folder, mirrors=[live.url], **options)
    assert run(both.download_plugin("altered")).read_bytes() == data


def test_the_cache_works_offline_until_it_expires(root, tmp_path, monkeypatch):
    """Without the server, what is in the cache is found and verified; once expired, it is a freeze."""
    folder = live_registry.make(tmp_path / "r", timestampLifetime=3600)
    data = live_registry.package(tmp_path, "kept")
    options = {"cache_dir": tmp_path / "cache"}
    with serving(folder) as live:
        with live.client(live.admin) as client:
            live_registry.publish(client, data)
        first = PluginRegistry(live.url, trust_on_first_use=True, **options)
        path = run(first.download_plugin("kept"))
        url = live.url
    assert run(PluginRegistry(url, **options).download_plugin("kept")) == path
    assert run(PluginRegistry(url, offline=True, **options).download_plugin("kept")) == path
    with pytest.raises(RegistryError, match="nobody answers"):
        run(PluginRegistry(url, offline=False, **options).download_plugin("kept"))
    with pytest.raises(RegistryError, match="nobody answers"):
        run(PluginRegistry(url, **options).versions("never-seen-before"))

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(hours=2)

    clock = SimpleNamespace(datetime=Later, timezone=datetime.timezone)
    monkeypatch.setattr(trusted_metadata_set, "datetime", clock)
    monkeypatch.setattr(repository, "datetime", Later)
    with pytest.raises(RegistryError, match="freeze attack") as refused:
        run(PluginRegistry(url, **options).download_plugin("kept"))
    assert refused.value.attack == "freeze"


def test_what_is_the_same_is_not_sent_again(live, root, publish, tmp_path):
    """The timestamp comes once for each state: until something is new, the registry answers 304."""
    publish("unchanged")
    said = []

    def note(reply, asked):
        said.append((asked.headers.get("if-none-match"), reply.status, len(reply.body)))
        return reply

    with tampering(live.url) as proxy:
        proxy.tell(r"/timestamp\.json", note)
        registry = PluginRegistry(proxy.url, root=root, cache_dir=tmp_path / "cache")
        for _ in range(3):
            assert len(run(registry.versions("unchanged"))) == 1
        publish("unchanged", "1.1.0")
        assert len(run(registry.versions("unchanged"))) == 2
    first, *same, other = said
    assert first[:2] == (None, 200)
    assert [one[1:] for one in same] == [(304, 0)] * 2
    assert (other[1], other[0]) == (200, same[0][0])


class Flaky(BaseHTTPRequestHandler):
    """Serves a folder of files, and breaks off its first answers with a package in the middle."""

    protocol_version = "HTTP/1.1"
    folder = None
    breaks = 0
    ranges: list = []  # noqa: RUF012 - set by the test
    endless = False
    redirect = ""
    encoding = ""

    def do_GET(self):
        if self.redirect and not self.path.startswith("/moved"):
            self.send_response(307)
            self.send_header("location", f"{self.redirect}{self.path}")
            self.send_header("content-length", "0")
            self.end_headers()
            return None
        path = self.folder / self.path.lstrip("/")
        if self.endless:
            return self._forever()
        if not path.is_file():
            self.send_error(404)
            return None
        data = path.read_bytes()
        asked, start = self.headers.get("range"), 0
        if asked and self.headers.get("if-range") == '"the-etag"':
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if path.suffix == ".frys":
            self.ranges.append(start)
        self.send_header("etag", '"the-etag"')
        if self.encoding:
            self.send_header("content-encoding", self.encoding)
        self.send_header("content-length", str(len(data) - start))
        self.end_headers()
        if path.suffix == ".frys" and type(self).breaks > 0:
            type(self).breaks -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return None
        self.wfile.write(data[start:])
        return None

    def _forever(self):
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            return

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def flaky(live, tmp_path):
    """The registry as files, behind a server that breaks off."""

    def start(folder):
        Flaky.folder, Flaky.breaks, Flaky.ranges, Flaky.endless = folder, 0, [], False
        Flaky.redirect = Flaky.encoding = ""
        return f"http://127.0.0.1:{server.server_address[1]}"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield start
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_goes_on_where_it_broke_off(live, root, publish, tmp_path, flaky):
    """A transfer that broke off twice is gone on with and verified; a wrong beginning is dropped."""
    data = publish("resumed", readme="words " * 20000)
    export(live, tmp_path / "files" / "tuf")
    url = flaky(tmp_path / "files")
    told = []
    registry = PluginRegistry(url, root=root, cache_dir=tmp_path / "cache", progress=told.append)
    Flaky.breaks = 2
    for _ in range(2):
        with pytest.raises(RegistryError, match="broke off"):
            run(registry.download_plugin("resumed"))
    assert run(registry.download_plugin("resumed")).read_bytes() == data
    assert Flaky.ranges[0] == 0
    assert 0 < Flaky.ranges[1] < Flaky.ranges[2]
    assert (told[-1].step, told[-1].done, told[-1].total) == ("download", len(data), len(data))

    (package,) = (tmp_path / "cache" / "packages").rglob("resumed-1.0.0.frys")
    part = package.with_name(f"{package.name}.part")
    package.unlink()
    part.write_bytes(b"x" * 1000)
    part.with_name(f"{part.name}.etag").write_text('"the-etag"')
    assert run(registry.download_plugin("resumed")).read_bytes() == data
    assert Flaky.ranges[3:] == [1000, 0]
    assert [path.name for path in package.parent.glob("*.frys*")] == [package.name]


def test_many_at_once_fetch_once(live, root, publish, tmp_path, flaky):
    """Several who want the same package at the same time share one transfer and one cache."""
    data = publish("shared", readme="words " * 20000)
    export(live, tmp_path / "files" / "tuf")
    registry = PluginRegistry(flaky(tmp_path / "files"), root=root, cache_dir=tmp_path / "cache")

    async def scenario():
        return await asyncio.gather(*(registry.download_plugin("shared") for _ in range(5)))

    paths = run(scenario())
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == data
    assert Flaky.ranges == [0]


def test_endless_and_silent_answers_end(live, root, tmp_path, flaky):
    """An answer without an end stops at the bound of its file; one without a byte when patience ends."""
    export(live, tmp_path / "files" / "tuf")
    url = flaky(tmp_path / "files")
    Flaky.endless = True
    options = {"root": root, "cache_dir": tmp_path / "cache"}
    with pytest.raises(RegistryError, match="endless data attack") as refused:
        run(PluginRegistry(url, **options).versions("any"))
    assert refused.value.attack == "endless data"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patience = Patience(grace=0.3)
        slow = PluginRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=patience, **options)
        with pytest.raises(RegistryError, match="slow retrieval attack") as refused:
            run(slow.versions("any"))
    assert refused.value.attack == "slow retrieval"


def test_redirects_and_compressed_answers(live, root, publish, tmp_path, flaky):
    """A redirect on the same host is followed; one elsewhere, and compressed bytes, are refused."""
    data = publish("redirected")
    export(live, tmp_path / "files" / "moved" / "tuf")
    here = flaky(tmp_path / "files")
    options = {"root": root, "cache_dir": tmp_path / "cache"}
    Flaky.redirect = f"{here}/moved"
    assert run(PluginRegistry(here, **options).download_plugin("redirected")).read_bytes() == data
    for elsewhere in ("http://127.0.0.2", "https://plugins.example.com", "//[", "file:///etc"):
        Flaky.redirect = elsewhere
        with pytest.raises(RegistryError, match="sent us"):
            run(PluginRegistry(here, offline=False, **options).versions("redirected"))
    Flaky.redirect = ""
    Flaky.encoding = "gzip"
    with pytest.raises(RegistryError, match="which nobody asked for"):
        run(PluginRegistry(f"{here}/moved", offline=False, **options).versions("redirected"))


def test_cancelling_ends_the_transfer(tmp_path):
    """A task that is cancelled while nobody answers ends at once, with its thread and its connection."""

    async def scenario(port):
        registry = PluginRegistry(f"http://127.0.0.1:{port}", cache_dir=tmp_path, trust_on_first_use=True)
        task = asyncio.create_task(registry.versions("any"))
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            await asyncio.to_thread(connection.recv, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            connection.settimeout(20)
            while await asyncio.to_thread(connection.recv, 4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(scenario(silent.getsockname()[1]))


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "http://", "https://user:secret@host", "http://host/?q", "http://[::1", "file://host/x"],
)
def test_addresses_that_are_none(url):
    """What is no address of a registry is a wrong setting."""
    with pytest.raises(ConfigError, match="registry"):
        PluginRegistry(url)


def test_a_token_is_not_sent_without_tls(tmp_path):
    """Publishing over plain HTTP to another machine, or without a token, is refused before a byte is sent."""
    live_registry.package(tmp_path, "secretive")
    with pytest.raises(RegistryError, match="not sent without TLS"):
        run(PluginRegistry("http://192.0.2.1", token="frys_x").publish_plugin(tmp_path / "secretive-1.0.0"))
    with pytest.raises(RegistryError, match="needs a token"):
        run(PluginRegistry("http://127.0.0.1:1").publish_plugin(tmp_path / "secretive-1.0.0"))


def test_answers_that_are_none_are_told(live, tmp_path):
    """A server that is no registry gets a sentence, and a folder has no search."""
    with pytest.raises(RegistryError, match="there is nothing at this address"):
        run(PluginRegistry(f"{live.url}/elsewhere", cache_dir=tmp_path).search_plugins("any"))
    with pytest.raises(RegistryError, match="only a server does"):
        run(PluginRegistry(tmp_path).search_plugins("any"))
    with pytest.raises(RegistryError, match="asks nobody"):
        run(PluginRegistry(live.url, offline=True).stats())
