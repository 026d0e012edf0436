"""What somebody between a registry and its client can do with some of its keys, and how it ends."""

import asyncio
import base64
import hashlib
import json

import live_registry
import pytest
from command import frys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tampering import lie, tampering
from tuf_thief import Thief

from frys_runtime import LoadFailed, PluginMarketplace, RegistryError
from frys_runtime.package import read_package
from frys_runtime.registry.paths import index_path, package_path
from frys_runtime.registry_server.keys import envelope, load_key, public_part
from frys_runtime.signing import sign
from frys_runtime.signing_keys import public_bytes

TIMESTAMP, SNAPSHOT = r"/timestamp\.json", r"/\d+\.snapshot\.json"


@pytest.fixture
def thief(live):
    """A thief of the online keys."""
    return Thief(live)


def further(document, ahead=1):
    """Make it a newer version."""
    document["version"] += ahead


def test_one_key_does_not_make_up_for_another(victim, proxy, prey, thief):
    """The key of the timestamp cannot sign a snapshot, and that of the snapshot no timestamp."""
    snapshot = thief.forged("snapshot", further, by="timestamp")
    proxy.tell(TIMESTAMP, lie(body=thief.timestamp_of(snapshot)))
    proxy.tell(SNAPSHOT, lie(body=snapshot))
    victim.refuses(prey, "wrong keys", "not signed by the keys that the trusted root names")
    proxy.honest()
    proxy.tell(TIMESTAMP, lie(body=thief.forged("timestamp", further, by="snapshot")))
    victim.refuses(prey, "wrong keys", "not signed by the keys that the trusted root names")


def test_rollback_with_the_timestamp_key(victim, proxy, publish, plugin, thief):
    """A new timestamp over an old snapshot is refused as a rollback, signed as both are."""
    publish(plugin)
    old = thief.newest("timestamp")["meta"]["snapshot.json"]
    publish(plugin, "1.1.0")
    victim.install(plugin, "=1.0.0")

    def back(document):
        document["version"] += 1
        document["meta"]["snapshot.json"] = old

    proxy.tell(TIMESTAMP, lie(body=thief.forged("timestamp", back)))
    victim.refuses(plugin, "rollback", "older metadata than this machine has seen", "^1.1")
    proxy.honest()
    assert victim.install(plugin, "^1.1") == {plugin: "1.1.0"}


def test_rollback_with_the_timestamp_and_snapshot_keys(victim, proxy, publish, plugin, thief):
    """A new snapshot that lists an older file of a publisher, or none, is refused, signed as it is."""
    publish(plugin)
    old = thief.newest("snapshot")["meta"]["publisher-1.json"]
    publish(plugin, "1.1.0")
    victim.install(plugin, "=1.0.0")

    def back(document):
        document["version"] += 1
        document["meta"]["publisher-1.json"] = old

    def gone(document):
        document["version"] += 1
        del document["meta"]["publisher-1.json"]

    for ahead, change, attack, story in (
        (1, back, "rollback", "an older file than this machine has seen"),
        (2, gone, "mix-and-match", "is not listed any more"),
    ):
        snapshot = thief.forged("snapshot", change)
        proxy.tell(TIMESTAMP, lie(body=thief.timestamp_of(snapshot, ahead=ahead)))
        proxy.tell(SNAPSHOT, lie(body=snapshot))
        victim.refuses(plugin, attack, story, "^1.1")
    proxy.honest()
    for version in ("1.1.1", "1.1.2", "1.1.3"):  # the registry itself goes on, past what was forged
        publish(plugin, version)
    assert victim.install(plugin, "^1.1") == {plugin: "1.1.3"}


def test_endless_data_with_the_timestamp_key(victim, proxy, publish, plugin, thief):
    """A snapshot that is signed as huge is read no further than metadata can be."""
    publish(plugin)

    def huge(document):
        document["version"] += 1
        document["meta"]["snapshot.json"]["length"] = 1 << 40

    proxy.tell(TIMESTAMP, lie(body=thief.forged("timestamp", huge)))
    proxy.tell(SNAPSHOT, lie(length=-1, endless=True, body=b" " * 65536))
    victim.refuses(plugin, "endless data", "it sends more than the 5000000 bytes")
    proxy.honest()
    for version in ("1.1.1", "1.1.2"):  # the registry itself goes on, past what was forged
        publish(plugin, version)
    assert victim.install(plugin) == {plugin: "1.1.2"}


def forgery(thief, plugin, index, package=b""):
    """A state of the registry with another list of versions of a plugin, signed by all online keys."""
    data = json.dumps(index, separators=(",", ":")).encode()
    digest, of = hashlib.sha256(data).hexdigest(), hashlib.sha256(package).hexdigest()

    def publisher(document):
        document["version"] += 100
        targets = document["targets"]
        targets[index_path(plugin)] = {"length": len(data), "hashes": {"sha256": digest}}
        if package:
            path = index["versions"][0]["path"]
            targets[path] = {"length": len(package), "hashes": {"sha256": of}}

    signed = thief.forged("publisher-1", publisher)
    version = json.loads(signed)["signed"]["version"]

    def listed(document):
        document["version"] += 100
        document["meta"]["publisher-1.json"] = {"version": version}

    snapshot = thief.forged("snapshot", listed)
    return {
        rf"/{version}\.publisher-1\.json": signed,
        SNAPSHOT: snapshot,
        TIMESTAMP: thief.timestamp_of(snapshot, ahead=100),
        rf"/{digest}\.index\.json": data,
        rf"/targets/.*/{of}\.": package,
    }


def publish_elsewhere(tmp_path, plugin, version="1.0.0", **about):
    """A package that only the thief has."""
    folder = tmp_path / "thief"
    folder.mkdir(exist_ok=True)
    return live_registry.package(folder, plugin, version, **about)


def listing(live, plugin):
    """The list of versions, as the registry has it."""
    with live.client() as client:
        found = client.get(f"/plugins/{plugin}/versions").json()
    return {"id": plugin, "versions": found["versions"]}


@pytest.fixture
def own(tmp_path):
    """A registry of this test alone, whose root two of two keys sign, behind a proxy."""
    folder, keys, password = tmp_path / "own", tmp_path / "own-keys", tmp_path / "password"
    password.write_text("correct horse\n")
    words = ["--root-keys", keys, "--keys", "2", "--threshold", "2", "--password-file", password]
    assert frys("registry", "init", folder, *words).returncode == 0
    with live_registry.serving(folder) as live, tampering(live.url) as proxy:
        root = tmp_path / "own-root.json"
        with live.client() as client:
            root.write_bytes(client.get(f"{live.url}/tuf/metadata/1.root.json").content)
        yield live, proxy, root


def offline(live, *words):
    """Do something with the offline keys, and make it count."""
    password = live.folder.parent / "password"
    done = frys("registry", *words)
    assert done.returncode == 0, done.stderr.decode()
    drafts = sorted((live.folder / "drafts").iterdir())
    for key in sorted(live.keys.iterdir()):
        signed = frys("registry", "root", "sign", *drafts, "--key", key, "--password-file", password)
        assert signed.returncode == 0, signed.stderr.decode()
    done = frys("registry", "root", "apply", live.folder)
    assert done.returncode == 0, done.stderr.decode()


def test_extraneous_dependencies_with_all_online_keys(live, victim, proxy, publish, plugin, thief):
    """A dependency that is signed, and is not in the package that the publisher made, is refused."""
    publish("dragged-along")
    data = publish(plugin)
    index = listing(live, plugin)
    index["versions"][0]["dependencies"] = [{"id": "dragged-along", "range": "*", "optional": False}]
    for path, body in forgery(thief, plugin, index, data).items():
        proxy.tell(path, lie(body=body))
    victim.refuses(plugin, "mix-and-match", "says something else about itself than what is signed about it")
    assert victim.versions() == {}


def test_wrong_software_with_all_online_keys(live, victim, proxy, prey, thief, tmp_path):
    """Another prey's package, signed into the place of this one, is refused by what it says itself."""
    other = publish_elsewhere(tmp_path, "somebody-else")
    index = listing(live, prey)
    index["versions"][0] |= {"sha256": hashlib.sha256(other).hexdigest(), "size": len(other)}
    for path, body in forgery(thief, prey, index, other).items():
        proxy.tell(path, lie(body=body))
    victim.refuses(prey, "mix-and-match", "says something else about itself than what is signed about it")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Somebody"}, {"id": "../../../etc"}, {"version": "../1.0.0"}, {"version": "1.0.0\0"},
        {"version": "1.0.0."}, {"path": "../../x.frys"}, {"path": "/etc/passwd"}, {"sha256": "../x"},
        {"size": -1}, {"size": "1"}, {"published": "yesterday"}, {"permissions": "Read"},
        {"dependencies": [{"id": "../x"}]}, {"dependencies": [{"id": "x", "range": "~~"}]},
    ],
    ids=str,
)  # fmt: skip
def test_names_that_are_signed_and_are_none(live, victim, proxy, prey, thief, change):
    """Ids, versions, paths and types are held against their rules, whoever signed them; no path leaves."""
    index = listing(live, prey)
    index["versions"][0] |= change
    for path, body in forgery(thief, prey, index).items():
        proxy.tell(path, lie(body=body))
    with pytest.raises(RegistryError, match=r"list of versions|something else than a registry") as refused:
        asyncio.run(victim.market.install(prey))
    assert str(refused.value).isprintable()
    assert victim.versions() == {}
    assert list((victim.folder / "cache").rglob("*.frys*")) == []


def test_all_online_keys_do_not_replace_the_publisher(live, victim, proxy, publish, plugin, thief, tmp_path):
    """A new version with malware, signed by all online keys, stops at the signature that the policy wants."""
    publisher = Ed25519PrivateKey.generate()
    made = tmp_path / "signed"
    made.mkdir()
    data = live_registry.package(made, plugin)
    with live.client(live.admin) as client:
        signature = sign(read_package(data), publisher)
        assert live_registry.publish(client, data, signature=signature).status_code == 201
    policy, public = tmp_path / "policy.yaml", base64.b64encode(public_bytes(publisher)).decode()
    policy.write_text(f"extends: maximum\nsignatures: {{required: true, keys: {{acme: {public}}}}}\n")
    market = PluginMarketplace(victim.registry, tmp_path / "strict", policy=policy, approve=lambda _: True)
    asyncio.run(market.install(plugin))
    bad = publish_elsewhere(tmp_path, plugin, "1.0.1", description="malware")
    index = listing(live, plugin)
    index["versions"][0] |= {
        "version": "1.0.1", "sha256": hashlib.sha256(bad).hexdigest(), "size": len(bad),
        "path": package_path(plugin, "1.0.1"), "signers": [],
    }  # fmt: skip
    for path, body in forgery(thief, plugin, index, bad).items():
        proxy.tell(path, lie(body=body))
    with pytest.raises(LoadFailed, match="it was not installed"):
        asyncio.run(market.upgrade())
    assert [one.version for one in market.list()] == ["1.0.0"]
    assert asyncio.run(market.verify()) == []


def test_fast_forward_and_its_end(own, tmp_path, victim_of):
    """Stolen keys can jump ahead and lock clients out; new keys in the root let them in again, and end it."""
    live, proxy, root = own
    made = tmp_path / "made"
    made.mkdir()
    with live.client(live.admin) as client:
        assert live_registry.publish(client, live_registry.package(made, "prey")).status_code == 201
        thief, victim = Thief(live), victim_of(proxy.url, root=root)
        assert victim.install("prey") == {"prey": "1.0.0"}
        far = 1 << 31

        def jump(document):
            document["version"] += far

        snapshot = thief.forged("snapshot", jump)
        timestamp = thief.timestamp_of(snapshot, ahead=far)
        proxy.tell(TIMESTAMP, lie(body=timestamp))
        proxy.tell(SNAPSHOT, lie(body=snapshot))
        asyncio.run(victim.registry.versions("prey"))
        proxy.honest()
        assert live_registry.publish(client, live_registry.package(made, "prey", "1.1.0")).status_code == 201
        victim.refuses("prey", "rollback", "older metadata than this machine has seen", "^1.1")

        offline(live, "keys", "revoke", live.folder, thief.key_of("timestamp")[0])
        offline(live, "keys", "rotate", live.folder, "snapshot")
        assert victim.install("prey", "^1.1") == {"prey": "1.1.0"}
        # Whoever has the revoked keys signs for nobody any more.
        proxy.tell(TIMESTAMP, lie(body=timestamp))
        proxy.tell(SNAPSHOT, lie(body=snapshot))
        victim.refuses("prey", "wrong keys", "not signed by the keys that the trusted root names", "*")


def test_one_root_key_of_two_changes_nothing(own, victim_of):
    """A root that one of two key holders signed, or only new holders, is refused; both together count."""
    live, proxy, root = own
    thief, victim = Thief(live), victim_of(proxy.url, root=root)
    asyncio.run(victim.registry.versions("prey"))
    password = (live.folder.parent / "password").read_bytes().strip()
    held = {path.stem: load_key(path, password) for path in live.keys.iterdir()}
    (first, key), (second, other) = held.items()
    mine, public = public_part(new := Ed25519PrivateKey.generate())

    def root_of(*keys, threshold=1, version=2):
        document = thief.read("1.root.json") | {"version": version}
        document["keys"][mine] = public
        document["roles"]["root"] = {"keyids": [mine], "threshold": threshold}
        document["roles"]["timestamp"] = {"keyids": [mine], "threshold": 1}
        return envelope(document, list(keys))

    for body in (
        root_of((first, key), (mine, new)),
        root_of((mine, new)),
        root_of((first, key), (second, key), (mine, new)),  # one key under two names
        root_of((first, key), (second, other)),  # without the new holder
    ):
        proxy.tell(r"/2\.root\.json", lie(body=body))
        victim.refuses("prey", "wrong keys", "not signed by the keys")
        proxy.honest()
    proxy.tell(r"/2\.root\.json", lie(body=root_of((first, key), (second, other), (mine, new), version=3)))
    victim.refuses("prey", "rollback", "do not follow one another")
    proxy.honest()
    assert asyncio.run(victim.registry.versions("prey")) == []
