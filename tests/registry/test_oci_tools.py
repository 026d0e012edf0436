"""OCI with tools that others wrote: skopeo reads our registry, and we install from Distribution's."""

import asyncio
import hashlib
import json
import subprocess

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from live_registry import publish
from oci_tools import SKOPEO, docker_registry

from frys_runtime import LoadFailed, PluginMarketplace, PluginRegistry, RegistryError
from frys_runtime.package import read_package
from frys_runtime.policy_signatures import TrustedKey
from frys_runtime.signing import sign
from frys_runtime.signing_keys import public_bytes

INDEX = "application/vnd.oci.image.index.v1+json"


def skopeo(*words):
    """What skopeo prints."""
    done = subprocess.run([*SKOPEO, *map(str, words)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def digest_of(data):
    """The OCI digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def host(registry):
    """Host and port of our registry."""
    return registry.url.removeprefix("http://")


@pytest.mark.needs_skopeo
def test_skopeo_pulls_a_plugin(registry, host, make_package, tmp_path):
    """Skopeo lists the versions and copies one by tag and by digest, into a folder and an OCI layout."""
    data = make_package("Skopeo-one")
    with registry.client(registry.admin) as admin:
        assert publish(admin, data).status_code == 201
        for version in ("1.1.0+build.7", "1.2.0"):
            assert publish(admin, make_package("Skopeo-one", version)).status_code == 201
        assert admin.put("/plugins/Skopeo-one/versions/1.2.0/yank").json()["changed"]

    name = f"docker://{host}/skopeo-one"
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", name))
    assert listed["Tags"] == ["1.0.0", "1.1.0_build.7"]
    manifest = skopeo("inspect", "--raw", "--tls-verify=false", f"{name}:1.0.0")
    assert json.loads(manifest)["artifactType"] == "application/vnd.frys.plugin.v1"

    for number, reference in enumerate((f"{name}:1.0.0", f"{name}@{digest_of(manifest)}")):
        folder = tmp_path / str(number)
        skopeo("copy", "--src-tls-verify=false", "--preserve-digests", reference, f"dir:{folder}")
        assert (folder / "manifest.json").read_bytes() == manifest
        assert (folder / digest_of(data)[7:]).read_bytes() == data
    layout = tmp_path / "layout"
    skopeo("copy", "--src-tls-verify=false", f"{name}:latest", f"oci:{layout}:newest")
    (found,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    copied = json.loads((layout / "blobs" / found["digest"].replace(":", "/")).read_bytes())
    assert copied["annotations"]["org.opencontainers.image.version"] == "1.1.0+build.7"


@pytest.mark.needs_skopeo
@pytest.mark.needs_docker_registry
def test_a_plugin_goes_through_a_registry_of_others(registry, host, make_package, tmp_path):
    """Copied into Distribution's registry, a plugin is installed by reference, with its signature."""
    key = Ed25519PrivateKey.generate()
    data = make_package("Travels")
    with registry.client(registry.admin) as admin:
        assert publish(admin, data, signature=sign(read_package(data), key)).status_code == 201
    trusted = TrustedKey("release", public_bytes(key))
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"extends: high\nsignatures: {{required: true, keys: {{release: {trusted}}}}}\n")

    with docker_registry(tmp_path) as there:
        manifest = carry(f"{host}/travels:1.0.0", f"{there}/acme/travels:1.0.0")
        client = PluginRegistry(registry.url, cache_dir=tmp_path / "cache")
        market = PluginMarketplace(client, tmp_path / "plugins", policy=policy)
        reference = f"oci://{there}/acme/travels:1.0.0"
        with pytest.raises(LoadFailed, match="it was not installed"):
            asyncio.run(market.install(reference))

        # As the specification has it for registries without the referrers API ("Referrers Tag Schema").
        url = f"{registry.url}/v2/travels/referrers/{digest_of(manifest)}"
        listed = httpx.get(url).json()
        signed = listed["manifests"][0]["digest"]
        carry(f"{host}/travels@{signed}", f"{there}/acme/travels:signature")
        tag = digest_of(manifest).replace(":", "-")
        put = httpx.put(
            f"http://{there}/v2/acme/travels/manifests/{tag}",
            content=json.dumps(listed),
            headers={"content-type": INDEX},
        )
        assert put.status_code == 201, put.text
        asyncio.run(market.install(reference))
        assert market.path("Travels").read_bytes() == data
        (there_now,) = market.list()
        assert there_now.entry.source == f"oci://{there}/acme/travels@{digest_of(manifest)}"
        assert list(there_now.entry.beside) == [".sig"]

        market.path("Travels").unlink()
        for cached in (tmp_path / "cache").rglob("*.frys"):
            cached.unlink()
        asyncio.run(market.install(locked=True))
        assert asyncio.run(market.verify()) == []

        (blob,) = (tmp_path / "data").rglob(f"{digest_of(data)[7:]}/data")
        blob.write_bytes(data[:-1] + b"?")
        other = PluginMarketplace(PluginRegistry(registry.url, cache_dir=tmp_path / "c"), tmp_path / "p")
        with pytest.raises(RegistryError) as refused:
            asyncio.run(other.install(reference))
        assert refused.value.attack == "arbitrary software"


def carry(source, target):
    """Copy an artifact from one registry to another; its manifest, which is the same there."""
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests",
           f"docker://{source}", f"docker://{target}")  # fmt: skip
    manifest = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{source}")
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target}") == manifest
    return manifest
