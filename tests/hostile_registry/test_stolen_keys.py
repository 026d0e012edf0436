"""What somebody between a registry and its client can do with some of its keys, and how it ends."""

import asyncio
import json

import live_registry
import pytest
from command import frys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tampering import Reply, edited, lie, tampering
from tuf_thief import Thief

from frys_runtime import LoadFailed, PluginMarketplace
from frys_runtime.package import read_package
from frys_runtime.registry.paths import index_path, package_path
from frys_runtime.registry_server.keys import envelope, public_part
from frys_runtime.signing import sign

TIMESTAMP, SNAPSHOT = r"/timestamp\.json", r"/\d+\.snapshot\.json"


@pytest.fixture
def thief(live):
    """A thief of the online keys."""
    return Thief(live)


def further(document, ahead=1):
    """Make it a newer version."""
    document["version"] += ahead


def test_one_key_does_not_make_up_for_another(victim, proxy, publish, plugin, thief):
    """The key of the timestamp cannot sign a snapshot, and that of the snapshot no timestamp."""
    publish(plugin)
    snapshot = thief.forged("snapshot", further, by="timestamp")
    proxy.tell(TIMESTAMP, lie(body=thief.timestamp_of(snapshot)))
    proxy.tell(SNAPSHOT, lie(body=snapshot))
    victim.refuses(plugin, "wrong keys", "not signed by the keys that the trusted root names")
    proxy.honest()
    proxy.tell(TIMESTAMP, lie(body=thief.forged("timestamp", further, by="snapshot")))
    victim.refuses(plugin, "wrong keys", "not signed by the keys that the trusted root names")


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

    for change, attack, story in (
        (back, "rollback", "an older file than this machine has seen"),
        (gone, "mix-and-match", "is not listed any more"),
    ):
        snapshot = thief.forged("snapshot", change)
        proxy.tell(TIMESTAMP, lie(body=thief.timestamp_of(snapshot)))
        proxy.tell(SNAPSHOT, lie(body=snapshot))
        victim.refuses(plugin, attack, story, "^1.1")
    proxy.honest()
    publish(plugin, "1.1.1")  # the registry itself goes on, past what was forged
    assert victim.install(plugin, "^1.1") == {plugin: "1.1.1"}


def everything(thief, plugin, changed, package=None):
    """All that is signed online, forged around a plugin: the answers by path."""
    role = "publisher-1"
    target = index_path(plugin)
    index = json.dumps(changed, separators=(",", ":")).encode()
    import hashlib

    digest = hashlib.sha256(index).hexdigest()

    def publisher(document):
        document["version"] += 100
        document["targets"][target] = {"length": len(index), "hashes": {"sha256": digest}}
        if package is not None:
            of = hashlib.sha256(package).hexdigest()
            release = changed["versions"][0]
            document["targets"][package_path(plugin, release["version"])] = {
                "length": len(package), "hashes": {"sha256": of},
            }  # fmt: skip

    signed = thief.forged(role, publisher)
    version = json.loads(signed)["signed"]["version"]

    def listed(document):
        document["version"] += 100
        document["meta"][f"{role}.json"] = {"version": version}

    snapshot = thief.forged("snapshot", listed)
    folder, name = target.rsplit("/", 1)
    return {
        rf"/{version}\.{role}\.json": signed,
        SNAPSHOT: snapshot,
        TIMESTAMP: thief.timestamp_of(snapshot, ahead=100),
        rf"/targets/{folder}/{digest}\.{name}": index,
    }
