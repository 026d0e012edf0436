"""Plugins as OCI artifacts, pulled by a client of others."""

import hashlib
import json

import oras.client
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from live_registry import publish

from frys_runtime.package import read_package
from frys_runtime.signing import sign


@pytest.fixture
def client(registry):
    """ORAS's client for Python, and the host it talks to."""
    host = registry.url.removeprefix("http://")
    return oras.client.OrasClient(hostname=host, insecure=True), host


def test_a_client_of_others_pulls_a_plugin(registry, client, make_package, tmp_path):
    """ORAS lists the versions, pulls one by tag and by digest, and gets the package byte for byte."""
    pulled, host = client
    data = make_package("OCI-one", "1.0.0", description="An artifact", license="MIT")
    with registry.client(registry.admin) as admin:
        assert publish(admin, data).status_code == 201
        assert publish(admin, make_package("OCI-one", "1.1.0+build.7")).status_code == 201
        assert publish(admin, make_package("OCI-one", "1.2.0")).status_code == 201
        assert admin.put("/plugins/OCI-one/versions/1.2.0/yank").json()["changed"]

    assert pulled.get_tags(f"{host}/oci-one") == ["1.0.0", "1.1.0_build.7"]
    (file,) = pulled.pull(f"{host}/oci-one:1.0.0", outdir=str(tmp_path / "tag"))
    with open(file, "rb") as found:
        assert found.read() == data
    manifest = pulled.get_manifest(f"{host}/oci-one:1.0.0")
    assert manifest["artifactType"] == "application/vnd.frys.plugin.v1"
    assert manifest["annotations"]["org.opencontainers.image.licenses"] == "MIT"
    assert (
        pulled.get_manifest(f"{host}/oci-one:latest")["annotations"]["org.opencontainers.image.version"]
        == "1.1.0+build.7"
    )


def test_manifests_and_blobs_are_what_their_digests_say(registry, make_package):
    """Manifests and blobs hash to their names, with HEAD, ranges and 404 as the specification says."""
    data = make_package("digested")
    with registry.client(registry.admin) as admin, registry.client() as http:
        http.base_url = f"{registry.url}/v2"
        assert publish(admin, data).status_code == 201
        assert http.get("/").headers["docker-distribution-api-version"] == "registry/2.0"
        tagged = http.get("/digested/manifests/1.0.0")
        digest = tagged.headers["docker-content-digest"]
        assert http.get(f"/digested/manifests/{digest}").content == tagged.content
        assert digest == f"sha256:{hashlib.sha256(tagged.content).hexdigest()}"
        head = http.head("/digested/manifests/1.0.0")
        assert (head.headers["content-length"], head.content) == (str(len(tagged.content)), b"")
        manifest = tagged.json()
        for descriptor in (manifest["config"], *manifest["layers"]):
            blob = http.get(f"/digested/blobs/{descriptor['digest']}")
            assert len(blob.content) == descriptor["size"]
            assert descriptor["digest"] == f"sha256:{hashlib.sha256(blob.content).hexdigest()}"
        layer = manifest["layers"][0]["digest"]
        assert http.get(f"/digested/blobs/{layer}", headers={"range": "bytes=5-9"}).content == data[5:10]
        missing = http.get(f"/digested/blobs/sha256:{'0' * 64}")
        assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
        assert http.get("/nothing-like-it/tags/list").status_code == 404
        assert http.put("/digested/manifests/2.0.0", content=b"{}").status_code == 405
        page = http.get("/digested/tags/list?n=0").json()
        assert page["tags"] == []


def test_what_vouches_for_a_plugin_refers_to_it(registry, make_package):
    """Envelope and bundle are found as referrers of the manifest, and are those that were published."""
    bundle = b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}'
    key = Ed25519PrivateKey.generate()
    data = make_package("signed-one")
    envelope = sign(read_package(data), key)
    with registry.client(registry.admin) as admin:
        assert publish(admin, data, signature=envelope, bundle=bundle).status_code == 201
        version = admin.get("/plugins/signed-one/versions/1.0.0").json()
        assert admin.get("/plugins/signed-one/versions/1.0.0/signature").content == envelope
        assert admin.get("/plugins/signed-one/versions/1.0.0/bundle").content == bundle
        admin.base_url = f"{registry.url}/v2"
        digest = admin.get("/signed-one/manifests/latest").headers["docker-content-digest"]
        found = admin.get(f"/signed-one/referrers/{digest}")
        both = {one["artifactType"]: one for one in found.json()["manifests"]}
        referrer = both.pop("application/vnd.dsse.envelope.v1+json")
        assert list(both) == ["application/vnd.dev.sigstore.bundle.v0.3+json"]
        assert found.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
        manifest = admin.get(f"/signed-one/manifests/{referrer['digest']}").json()
        other = admin.get(f"/signed-one/referrers/{digest}", params={"artifactType": "application/other"})
        blob = admin.get(f"/signed-one/blobs/{manifest['layers'][0]['digest']}").content

    assert manifest["subject"]["digest"] == digest
    assert manifest["artifactType"] == referrer["artifactType"] == "application/vnd.dsse.envelope.v1+json"
    assert blob == envelope
    assert (other.json()["manifests"], other.headers["oci-filters-applied"]) == ([], "artifactType")
    assert version["signers"] == [json.loads(envelope)["signatures"][0]["keyid"]]


def test_unsigned_packages_are_refused_where_signatures_are_asked_for(tmp_path, make_package):
    """With requireSignature, a package without an envelope is refused and one with it is taken."""
    import live_registry

    folder = live_registry.make(tmp_path / "r", requireSignature=True)
    data = make_package("must-sign")
    envelope = sign(read_package(data), Ed25519PrivateKey.generate())
    with live_registry.serving(folder) as live, live.client(live.admin) as admin:
        refused = publish(admin, data)
        assert (refused.status_code, "frys sign" in refused.json()["detail"]) == (422, True)
        assert publish(admin, data, signature=envelope).status_code == 201
