"""PluginMarketplace: what it installs, what it refuses, and that nothing leaves it in a state between two."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import live_registry
import msgspec
import pytest
from command import frys
from live_registry import serving

from frys_runtime import (
    ConfigError,
    DependencyError,
    LoadFailed,
    PluginLoader,
    PluginManager,
    PluginMarketplace,
    PluginRegistry,
    RegistryError,
)
from frys_runtime.marketplace.lockfile import read_lock


def run(awaitable):
    """Wait for something."""
    return asyncio.run(awaitable)


def needs(plugin, accepted, *, optional=False):
    """A dependency, as a plugin.json has it."""
    return {"pluginId": plugin, "versionRange": accepted, "optional": optional}


def versions(market):
    """What is installed."""
    return {one.plugin: one.version for one in market.list()}


@pytest.fixture
def market(registry, tmp_path):
    """A marketplace with an empty folder."""
    return PluginMarketplace(registry, tmp_path / "plugins")


def test_install_with_what_it_needs(market, publish, tmp_path):
    """The newest versions that fit together come, locked byte for byte, and load from where they are."""
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        publish("in-base", version)
    publish("in-other", dependencies=[needs("in-base", "<1.1 || ^2"), needs("in-nobody", "*", optional=True)])
    publish("in-app", dependencies=[needs("in-base", "^1"), needs("in-other", "^1")], permissions=["Read"])

    done = run(market.install("in-app"))

    assert [str(change) for change in done] == [
        "in-app 1.0.0 comes",
        "in-base 1.0.0 comes",
        "in-other 1.0.0 comes",
    ]
    lock = json.loads((tmp_path / "plugins" / "frys.lock").read_text())
    assert lock["requested"] == {"in-app": "^1.0.0"}
    assert lock["plugins"]["in-app"]["permissions"] == ["Read"]
    for one in market.list():
        with PluginLoader().load(one.path) as bundle:
            assert bundle.package.digest == one.entry.sha256 == lock["plugins"][one.plugin]["sha256"]
    assert run(market.verify()) == []
    assert run(market.install("in-app")) == []  # all is there
    with pytest.raises(DependencyError) as refused:
        run(market.install("in-base", "^2"))
    assert "in-app 1.0.0 wants in-base ^1" in str(refused.value)
    assert "there are 2.0.0, 1.1.0, 1.0.0" in str(refused.value)
    with pytest.raises(DependencyError, match="there is no plugin 'in-nobody' in any registry"):
        run(market.install("in-nobody"))
    assert versions(market) == {"in-app": "1.0.0", "in-base": "1.0.0", "in-other": "1.0.0"}


def test_browse(market, publish):
    """The first registry is searched, page by page and narrowed by properties."""
    for number in range(3):
        publish(f"browsed-{number}", description="quarks", permissions=["Read"] if number else [])
    page = run(market.browse("quarks", limit=2))
    assert (len(page.plugins), page.total) == (2, 3)
    rest = run(market.browse("quarks", limit=2, cursor=page.cursor))
    assert {one.id for one in (*page.plugins, *rest.plugins)} == {f"browsed-{number}" for number in range(3)}
    assert run(market.browse("quarks", permission="Read")).total == 2


def test_plugins_that_need_each_other_are_not_installed(market, publish):
    """A ring of needs can never be loaded, and is told before anything is changed."""
    publish("ring-a", dependencies=[needs("ring-b", "*")])
    publish("ring-b", dependencies=[needs("ring-a", "*")])
    with pytest.raises(DependencyError, match="they need each other"):
        run(market.install("ring-a"))
    assert versions(market) == {}


def test_an_optional_need_holds_for_what_is_chosen_anyway(market, publish):
    """What a plugin can do without does not come by it, but where it comes, its version fits."""
    for version in ("1.0.0", "2.0.0"):
        publish("opt-extra", version)
    publish("opt-app", dependencies=[needs("opt-extra", "^1", optional=True)])
    run(market.install("opt-app"))
    assert versions(market) == {"opt-app": "1.0.0"}
    run(market.install("opt-extra"))
    assert versions(market) == {"opt-app": "1.0.0", "opt-extra": "1.0.0"}


def test_what_an_upgrade_asks_for_is_approved(market, publish, tmp_path):
    """More permissions, capabilities or another format need somebody's yes; without it all stays as it is."""
    publish("wide", permissions=["Read"], optionalPermissions=["Network"])
    run(market.install("wide"))
    publish("wide", "1.0.1", permissions=["Read"])
    assert [str(change) for change in run(market.upgrade())] == ["wide 1.0.0 > 1.0.1"]
    publish("wide-new")
    publish(
        "wide", "1.1.0", permissions=["Read", "Write"], capabilities=["AIProcessing"],
        dependencies=[needs("wide-new", "*")],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="asks for permission Write, capability AIProcessing"):
        run(market.upgrade("wide"))
    asked = []

    def approve(answer):
        async def ask(changes):
            asked.append([(change.plugin, change.asks) for change in changes])
            return answer

        return PluginMarketplace(market.registries, tmp_path / "plugins", approve=ask)

    with pytest.raises(ConfigError, match="nothing was changed"):
        run(approve(False).upgrade())
    assert versions(market) == {"wide": "1.0.1"}
    assert sorted(entry.name for entry in (tmp_path / "plugins" / "packages").iterdir()) == sorted(
        [".lock", market.list()[0].entry.sha256]
    )
    run(approve(True).upgrade())
    assert versions(market) == {"wide": "1.1.0", "wide-new": "1.0.0"}
    assert asked[0] == asked[1] == [("wide", ("permission Write", "capability AIProcessing"))]


def test_ranges_hold_when_upgrading(market, publish):
    """Upgrades stay in the range that was asked for and pass yanked versions by; outdated tells."""
    publish("old")
    run(market.install("old"))
    for version in ("1.0.5", "1.3.0", "1.4.0", "2.0.0"):
        publish("old", version)
    with_yank = market.registries[0]
    with live_registry_client(with_yank) as client:
        for version, reason in (("1.4.0", "wrong"), ("1.0.0", "worse")):
            assert client.put(f"/plugins/old/versions/{version}/yank", json={"reason": reason}).json()[
                "changed"
            ]
        assert client.put("/plugins/old/deprecation", json={"message": "use new"}).json()["changed"]
    (one,) = run(market.outdated())
    assert (one.version, one.patch, one.compatible, one.latest) == ("1.0.0", "1.0.5", "1.3.0", "2.0.0")
    assert (one.yanked, one.deprecated) == ("worse", "use new")
    assert run(market.install(locked=True)) == []  # who has locked a yanked version keeps it
    run(market.upgrade())
    assert versions(market) == {"old": "1.3.0"}
    run(market.upgrade("old", version="^2"))
    assert versions(market) == {"old": "2.0.0"}
    with pytest.raises(ConfigError, match="'other' is not installed"):
        run(market.upgrade("other"))


def live_registry_client(registry):
    """Its API, for what only owners do."""
    headers = {"authorization": f"Bearer {registry._token}"}
    return httpx.Client(base_url=f"{registry.url}/api/v1", headers=headers, timeout=30)


def test_young_versions_wait(registry, publish, tmp_path):
    """With a minimum age, what was just published is not chosen, and the error says so."""
    publish("young")
    patient = PluginMarketplace(registry, tmp_path / "plugins", min_age=timedelta(days=3))
    with pytest.raises(
        DependencyError, match=r"there are 1\.0\.0 \(published 0\.0 h ago, and min_age is 72 h\)"
    ):
        run(patient.install("young"))
    run(PluginMarketplace(registry, tmp_path / "plugins").install("young"))
    publish("young", "1.0.1")
    assert run(patient.upgrade()) == []
    assert run(patient.outdated()) == []


def test_uninstall(market, publish):
    """What others need stays unless forced; what nobody needs any more goes, too."""
    publish("un-base")
    publish("un-app", dependencies=[needs("un-base", "^1")])
    run(market.install("un-app"))
    with pytest.raises(DependencyError, match=r"un-base is needed by un-app \(\^1\)"):
        run(market.uninstall("un-base"))
    run(market.uninstall("un-base", force=True))
    assert [str(one) for one in run(market.verify())] == [
        "un-app: it needs un-base ^1, which is not installed"
    ]
    run(market.install("un-app"))
    assert versions(market) == {"un-app": "1.0.0", "un-base": "1.0.0"}
    assert [str(one) for one in run(market.uninstall("un-app"))] == [
        "un-app 1.0.0 goes",
        "un-base 1.0.0 goes",
    ]
    assert versions(market) == {}
    with pytest.raises(ConfigError, match="is not installed"):
        run(market.uninstall("un-app"))


def test_a_lock_alone_restores_the_same_bytes(live, registry, market, publish, tmp_path):
    """From frys.lock alone, with the root it names, all comes back elsewhere; differences are refused."""
    publish("lock-base")
    publish("lock-app", dependencies=[needs("lock-base", "^1")])
    run(market.install("lock-app"))
    publish("lock-base", "1.1.0")

    def elsewhere(name, change=lambda text: text):
        folder = tmp_path / name
        folder.mkdir()
        text = (tmp_path / "plugins" / "frys.lock").read_text()
        (folder / "frys.lock").write_text(change(text))
        return PluginMarketplace(PluginRegistry(live.url, cache_dir=tmp_path / f"cache-{name}"), folder)

    other = elsewhere("a")
    assert sorted(str(change) for change in run(other.install(locked=True))) == [
        "lock-app 1.0.0 comes",
        "lock-base 1.0.0 comes",
    ]
    assert run(other.verify()) == []
    run(other.install("lock-app", "^1", locked=True))
    with pytest.raises(ConfigError, match="which is not \\^2"):
        run(other.install("lock-app", "^2", locked=True))
    with pytest.raises(ConfigError, match="nothing is added"):
        run(other.install("lock-new", locked=True))

    path = other.path("lock-base")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [str(one)[:38] for one in run(other.verify())] == ["lock-base: its package has the SHA-256"]
    run(other.install())
    assert run(other.verify()) == []

    digest = market.list()[0].entry.sha256
    wrong = elsewhere("b", lambda text: text.replace(digest, "0" * 64))
    with pytest.raises(RegistryError, match="versions never change") as refused:
        run(wrong.install(locked=True))
    assert refused.value.attack == "arbitrary software"
    unfit = elsewhere("c", lambda text: text.replace('"^1.0.0"', '"^3"'))
    with pytest.raises(ConfigError, match=r"\^3 is requested, and 1\.0\.0 is locked"):
        run(unfit.install(locked=True))
    no_root = elsewhere("d", lambda text: text.replace("sha256:", f"sha256:{'0' * 8}", 1)[:-1])
    with pytest.raises(ConfigError, match=r"frys\.lock"):
        run(no_root.install(locked=True))


def test_signatures_are_asked_for_when_installing(registry, live, publish, tmp_path):
    """A policy's keys decide what is installed; the signatures lie beside the package and load under it."""
    from frys_runtime.package import read_package
    from frys_runtime.signing import sign
    from frys_runtime.signing_keys import read_key

    key = tmp_path / "release.key"
    made = frys("keygen", "-o", key, "--no-password", "--json")
    assert made.returncode == 0, made.stderr.decode()
    public = Path(f"{key}.pub").read_text().strip()
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"extends: maximum\nsignatures: {{required: true, keys: {{release: {public}}}}}\n")
    private = read_key(str(key), None)
    publish("signed-one", signature=lambda data: sign(read_package(data), private))
    publish("signed-not")
    strict = PluginMarketplace(registry, tmp_path / "plugins", policy=policy)
    with pytest.raises(
        LoadFailed, match="it was not installed: its policy requires signatures of 1 of the keys"
    ):
        run(strict.install("signed-not"))
    assert versions(strict) == {}
    run(strict.install("signed-one"))
    (one,) = strict.list()
    assert len(one.entry.signers) == 1
    assert run(strict.verify()) == []
    assert frys("verify", one.path, "--policy", policy).returncode == 0
    run(
        PluginMarketplace(registry, tmp_path / "oci", policy=policy).install(
            f"oci://{live.url[7:]}/signed-one"
        )
    )
    with pytest.raises(LoadFailed, match="it was not installed"):
        run(
            PluginMarketplace(registry, tmp_path / "o2", policy=policy).install(
                f"oci://{live.url[7:]}/signed-not"
            )
        )
    beside = one.path.with_name(f"{one.path.name}.sig")
    beside.unlink()
    assert "its signatures are not those that are locked" in str(run(strict.verify())[0])


def test_oci_references(registry, live, publish, tmp_path):
    """A tag is recorded by its digest, a digest is verified, and needs come from the registry."""
    publish("oci-base")
    publish("Oci-App", "1.2.0", dependencies=[needs("oci-base", "^1")])
    market = PluginMarketplace(registry, tmp_path / "plugins")
    where = f"oci://{live.url[7:]}/oci-app"
    run(market.install(f"{where}:1.2.0"))
    assert versions(market) == {"Oci-App": "1.2.0", "oci-base": "1.0.0"}
    source = market.list()[0].entry.source
    assert source.startswith(f"{where}@sha256:")
    other = PluginMarketplace(registry, tmp_path / "other")
    run(other.install(source))
    assert run(other.verify()) == run(market.verify()) == []
    mine = tmp_path / "plugins" / "packages" / "mine"
    mine.mkdir()
    run(market.install("oci-base"))
    assert mine.exists()  # a folder of that name may have other uses
    shutil.rmtree(tmp_path / "plugins" / "packages")
    run(market.install(locked=True))
    assert run(market.verify()) == []
    with pytest.raises(RegistryError, match="could not be fetched"):
        run(market.install(f"{where}@sha256:{'0' * 64}"))
    with pytest.raises(ConfigError, match="is none; one is oci://"):
        run(market.install("oci://nowhere"))


class Guarded(BaseHTTPRequestHandler):
    """An OCI registry that wants a token from everybody, has blobs elsewhere and no referrers."""

    behind = ""
    asked: list = []  # noqa: RUF012 - set by the test

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/token?"):
            return self._answer(200, b'{"token": "everybody"}')
        if self.headers.get("authorization") != "Bearer everybody":
            realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
            return self._answer(401, b"", **{"www-authenticate": f'Bearer realm="{realm}",service="us"'})
        if "/referrers/" in self.path:
            return self._answer(404, b"")
        got = httpx.get(self.behind + self.path, headers={"accept": self.headers["accept"]})
        return self._answer(got.status_code, got.content)

    def _answer(self, status, data, **headers):
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing."""


def test_an_oci_registry_that_gives_everybody_a_token(registry, live, publish, tmp_path):
    """A token that anybody gets is asked for and used; without referrers there are no signatures."""
    data = publish("oci-guarded")
    Guarded.behind, Guarded.asked = live.url, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            market = PluginMarketplace(registry, tmp_path / "plugins")
            run(market.install(f"oci://127.0.0.1:{server.server_address[1]}/oci-guarded:1.0.0"))
        finally:
            server.shutdown()
            thread.join()
    assert market.path("oci-guarded").read_bytes() == data
    assert "/token?service=us&scope=repository%3Aoci-guarded%3Apull" in Guarded.asked
    patient = PluginMarketplace(registry, tmp_path / "p2", min_age=1)
    with pytest.raises(RegistryError, match="min_age asks for one"):
        run(patient.install(f"oci://{live.url[7:]}/oci-guarded"))


def test_several_registries(registry, publish, tmp_path):
    """The first that has a plugin gives it; what is installed stays with its registry."""
    publish("two-mine", "1.0.0")
    folder = live_registry.make(tmp_path / "second")
    made = tmp_path / "second-made"
    made.mkdir()
    with serving(folder) as live:
        with live.client(live.admin) as client:
            for plugin, version in (("two-mine", "1.5.0"), ("two-theirs", "1.0.0")):
                live_registry.publish(client, live_registry.package(made, plugin, version))
        second = PluginRegistry(live.url, cache_dir=tmp_path / "cache", trust_on_first_use=True)
        both = PluginMarketplace([registry, second], tmp_path / "plugins")
        run(both.install("two-mine"))
        run(both.install("two-theirs"))
        assert versions(both) == {"two-mine": "1.0.0", "two-theirs": "1.0.0"}
        publish("two-theirs", "1.1.0")
        assert run(both.upgrade()) == []
        alone = PluginMarketplace(registry, tmp_path / "plugins")
        with pytest.raises(RegistryError, match="it is not configured"):
            run(alone.upgrade())


def test_one_process_at_a_time(registry, publish, tmp_path):
    """While one change is under way, another waits its turn or is told to try again."""
    publish("turns", permissions=[])
    publish("turns", "1.1.0", permissions=["Write"])
    folder = tmp_path / "plugins"
    run(PluginMarketplace(registry, folder).install("turns", "=1.0.0"))

    async def scenario():
        waits = asyncio.Event()
        goes_on = asyncio.Event()

        async def approve(_):
            waits.set()
            await goes_on.wait()
            return True

        first = asyncio.create_task(
            PluginMarketplace(registry, folder, approve=approve).upgrade("turns", version="^1")
        )
        await waits.wait()
        with pytest.raises(RegistryError, match="another process is changing it"):
            await PluginMarketplace(registry, folder, wait=0).uninstall("turns")
        second = asyncio.create_task(PluginMarketplace(registry, folder).uninstall("turns"))
        goes_on.set()
        await first
        assert [str(change) for change in await second] == ["turns 1.1.0 goes"]

    run(scenario())


def test_killed_anywhere_it_is_the_old_state_or_the_new_one(registry, live, publish, tmp_path):
    """Upgrades that are killed at each of their steps leave one of the two states, whole, and no rubbish."""
    publish("kill-base")
    publish("kill-base", "2.0.0")
    publish("kill-app", dependencies=[needs("kill-base", "^1")])
    publish("kill-app", "2.0.0", dependencies=[needs("kill-base", "^2")])
    run(registry.versions("kill-app"))
    folder = tmp_path / "plugins"
    program = Path(__file__).with_name("interrupted.py")
    words = [live.url, tmp_path / "cache", folder, "kill-app", "=1.0.0", "=2.0.0"]
    done = subprocess.run([sys.executable, program, *words], capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)

    old, new = ({"kill-app": version, "kill-base": version} for version in ("1.0.0", "2.0.0"))
    assert len(found["states"]) > 10
    assert all(state["findings"] == [] for state in found["states"])
    kinds = [state["plugins"] for state in found["states"]]
    assert kinds[0] == old
    assert kinds[-1] == new
    assert all(kind in (old, new) for kind in kinds)
    digests = [entry.place for entry in read_lock(folder).plugins.values()]
    assert found["left"] == sorted([".lock", *digests, "frys.lock", "packages"])


def test_a_full_disk_changes_nothing(market, publish, monkeypatch):
    """Without room for a package, nothing is changed and nothing is left."""
    publish("roomless")

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", no_room)
    with pytest.raises(RegistryError, match="No space left on device; nothing was installed"):
        run(market.install("roomless"))
    assert versions(market) == {}
    assert [entry.name for entry in (market.folder / "packages").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "wrong",
    ["{", '{"lock": 2}', '{"lock": 1, "more": 1}', '{"lock": 1, "requested": {"../x": "*"}}',
     '{"plugins": {"a": {"version": "../x", "sha256": "", "size": 1, "source": "x", "format": ""}}}'],
)  # fmt: skip
def test_a_wrong_lock_is_told_and_nothing_is_swept(market, wrong):
    """A lock that is none is an error that names the file; what is installed stays where it is."""
    if not (market.folder / "frys.lock").exists():
        market.folder.mkdir(exist_ok=True)
        (market.folder / "packages" / ("0" * 64)).mkdir(parents=True)
    (market.folder / "frys.lock").write_text(wrong)
    with pytest.raises(ConfigError, match=r"frys\.lock"):
        run(market.install("any"))
    assert (market.folder / "packages" / ("0" * 64)).exists()


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
def test_from_a_name_to_a_running_plugin(registry, publish, tmp_path):
    """A name with a range is installed, verified and loaded after what it needs; altered bytes are not."""
    publish("run-base")
    publish("run-app", "1.2.0", dependencies=[needs("run-base", "^1")])

    async def scenario():
        builder = PluginManager.builder().with_registry(PluginMarketplace(registry, tmp_path / "plugins"))
        async with await builder.build() as manager:
            plugin = await manager.load_plugin("run-app@^1.2")
            assert await manager.execute_plugin(plugin, "double", 21) == 42
            assert {one.id: one.version for one in manager.list_plugins()} == {
                "run-base": "1.0.0",
                "run-app": "1.2.0",
            }
            await manager.unload_plugin(plugin)
            path = next((tmp_path / "plugins").rglob("run-app-1.2.0.frys"))
            path.chmod(0o644)
            path.write_bytes(publish("run-app", "1.3.0"))
            with pytest.raises(LoadFailed, match="its bytes are not those that are locked"):
                await manager.load_plugin("run-app@^1.2")

    run(scenario())


def test_lock_files_are_the_same_for_the_same_content(market, publish):
    """Reading a lock and writing it again gives the same bytes."""
    publish("stable", capabilities=["B", "A"])
    run(market.install("stable"))
    data = (market.folder / "frys.lock").read_bytes()
    assert read_lock(market.folder).encode() == data
    assert msgspec.json.decode(data)["plugins"]["stable"]["capabilities"] == ["A", "B"]
