"""Installing by OCI reference from a registry that lies: every byte is held against a digest."""

import asyncio
import hashlib
import json

import pytest
from tampering import edited, lie, moved

from frys_runtime import ConfigError, PluginMarketplace, PluginRegistry

MANIFEST, BLOB, REFERRERS = r"/v2/.*/manifests/", r"/v2/.*/blobs/", r"/v2/.*/referrers/"


@pytest.fixture
def reference(proxy, prey):
    """A plugin that is published, by tag."""
    return f"oci://{proxy.url[7:]}/{prey}:1.0.0"


def digest_of(live, plugin, version="1.0.0"):
    """The digest of a version's manifest."""
    with live.client() as client:
        answer = client.get(f"{live.url}/v2/{plugin}/manifests/{version}", headers={"accept": "*/*"})
    assert answer.status_code == 200, answer.text
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def challenge(how):
    """A registry that wants to know who asks."""
    return lie(status=401, headers={"www-authenticate": how})


def layer(**changes):
    """A manifest whose layer is another one."""

    def change(document):
        document["layers"][0] |= changes

    return edited(change)


@pytest.mark.parametrize(
    ("path", "what", "attack", "story"),
    [
        (MANIFEST, lie(body=b"{"), "", "something else than a registry does"),
        (MANIFEST, lie(body=b'{"layers": ' + b"[" * 100_000), "", "something else than a registry does"),
        (MANIFEST, lie(body=b'{"layers": []}'), "", "has nothing, and not one"),
        (MANIFEST, lie(body=b'{"manifests": []}'), "", "something else than a registry does"),
        (MANIFEST, lie(length=-1, endless=True, body=b" " * 65536), "endless data", "more than the 4194304"),
        (MANIFEST, layer(mediaType="application/x-sh"), "", "this is no plugin: its manifest has"),
        (MANIFEST, layer(mediaType="\x1b[2J\u202e"), "", "this is no plugin: its manifest has"),
        (MANIFEST, layer(size=1 << 40), "", "something else than a registry does"),
        (MANIFEST, layer(size=-1), "", "something else than a registry does"),
        (MANIFEST, layer(size=10), "endless data", "there can be 10 at most|more than the 10"),
        (MANIFEST, layer(digest="sha256:../../../etc/passwd"), "", "something else than a registry does"),
        (MANIFEST, layer(digest="sha512:" + "0" * 128), "", "something else than a registry does"),
        (BLOB, lambda reply, _: lie(body=b"\0" * len(reply.body))(reply, _), "arbitrary software", "SHA-256"),
        (BLOB, lie(length=-1, endless=True, body=b" " * 65536), "endless data", "it sends more than"),
        (BLOB, lie(pause=60), "slow retrieval", "fast enough|nothing came"),
        (BLOB, lie(status=404, body=b""), "", "answered 404"),
        (BLOB, moved("http://192.0.2.1/blob"), "", "sent us on to http://192.0.2.1"),
        (BLOB, moved("file:///etc/passwd"), "", "sent us on to file://"),
        (BLOB, moved("/v2/loop/blobs/x"), "", "more than 3 times"),
        (BLOB, lie(headers={"content-encoding": "gzip"}, body=b"x"), "", "compressed bytes"),
        (MANIFEST, lie(status=401, body=b""), "", "answered 401"),
        (MANIFEST, challenge('Basic realm="x"'), "", "somebody to log in"),
        (MANIFEST, challenge('Bearer realm="http://192.0.2.1/"'), "", "somebody to log in"),
        (MANIFEST, challenge('Bearer realm="file:///etc/passwd"'), "", "somebody to log in"),
        (REFERRERS, lie(body=b"[]"), "", "something else than a registry does"),
        (REFERRERS, lie(length=-1, endless=True, body=b" " * 65536), "endless data", "it sends more than"),
    ],
    ids=range(26),
)  # fmt: skip
def test_answers_that_are_none(victim, proxy, reference, prey, path, what, attack, story):
    """Whatever stands for a manifest, a blob or a list of signatures, it is refused and nothing changes."""
    proxy.tell(path, what)
    victim.refuses(reference, attack, story)
    proxy.honest()
    assert victim.install(reference) == {prey: "1.0.0"}


def test_a_digest_is_what_was_meant(live, victim, proxy, publish, plugin):
    """Under a digest no other manifest is taken, be it of another version or of another plugin."""
    publish(plugin)
    publish(plugin, "1.1.0")
    pinned = f"oci://{proxy.url[7:]}/{plugin}@{digest_of(live, plugin)}"
    with live.client() as client:
        other = client.get(f"{live.url}/v2/{plugin}/manifests/1.1.0").content
    proxy.tell(MANIFEST, lie(body=other))
    victim.refuses(pinned, "arbitrary software", "what came has the SHA-256")
    proxy.honest()
    assert victim.install(pinned) == {plugin: "1.0.0"}


def test_a_tag_that_moves_is_held_to_what_was_installed(live, victim, proxy, publish, plugin, tmp_path):
    """What is installed stays by its digest when a tag moves, and is restored by it, elsewhere, too."""
    publish(plugin)
    reference = f"oci://{proxy.url[7:]}/{plugin}:1.0.0"
    publish(plugin, "1.1.0")
    assert victim.install(reference) == {plugin: "1.0.0"}
    lock = (victim.folder / "plugins" / "frys.lock").read_bytes()
    assert digest_of(live, plugin).encode() in lock
    with live.client() as client:
        other = client.get(f"{live.url}/v2/{plugin}/manifests/1.1.0").content
    proxy.tell(r"/manifests/1\.0\.0", lie(body=other))
    asyncio.run(victim.market.upgrade())
    assert victim.versions() == {plugin: "1.0.0"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "frys.lock").write_bytes(lock)
    second = PluginMarketplace(victim.registry, elsewhere)
    asyncio.run(second.install(locked=True))
    assert [one.version for one in second.list()] == ["1.0.0"]
    assert (elsewhere / "frys.lock").read_bytes() == lock


def test_blobs_of_foreign_registries_need_tls_and_the_digest(victim, proxy, reference, prey):
    """A blob may lie elsewhere, as OCI has it, but not without TLS, and no word of it is believed."""
    proxy.tell(BLOB, moved("https://127.0.0.1:1/blob"))
    victim.refuses(reference, "", "nobody answers there")  # it went there, and there is nobody
    proxy.tell(BLOB, moved("http://127.0.0.1:1/blob"))
    victim.refuses(reference, "", "sent us on to http://127.0.0.1")
    proxy.honest()
    assert victim.install(reference) == {prey: "1.0.0"}


def test_signatures_that_are_swapped_are_not_taken(live, victim, proxy, reference, prey):
    """A signature whose bytes are not those of its digest is refused, not left out."""
    digest = "sha256:" + "1" * 64
    kind = "application/vnd.dsse.envelope.v1+json"
    listed = {"manifests": [{"mediaType": "x", "artifactType": kind, "digest": digest, "size": 2}]}
    signed = json.dumps({"layers": [{"mediaType": kind, "digest": digest, "size": 2}]}).encode()
    proxy.tell(REFERRERS, lie(body=json.dumps(listed).encode()))
    proxy.tell(rf"/manifests/{digest}", lie(body=signed))
    victim.refuses(reference, "arbitrary software", "what came has the SHA-256")
    proxy.honest()
    assert victim.install(reference) == {prey: "1.0.0"}


@pytest.mark.parametrize(
    "text",
    ["oci://", "oci://127.0.0.1/../x", "oci://127.0.0.1/a/../../x", "oci://127.0.0.1/x@sha256:../..",
     "oci://127.0.0.1/x:../y", "oci://user@127.0.0.1/x", "oci://127.0.0.1/X\u0456", "oci://127.0.0.1/x?y",
     "oci://127.0.0.1/x:1\n", "oci://127.0.0.1:99999999/x", "oci://" + "x" * 2000 + "/x"],
)  # fmt: skip
def test_references_that_are_none(tmp_path, text):
    """What is no reference is refused before anybody is asked."""
    market = PluginMarketplace(PluginRegistry("http://127.0.0.1:1", cache_dir=tmp_path / "c"), tmp_path / "p")
    with pytest.raises(ConfigError, match="is none; one is oci://"):
        asyncio.run(market.install(text))
