"""The TUF repository, as python-tuf's own client sees it, and the keys behind it."""

import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path

import live_registry
import msgspec
import pytest
from command import frys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, strategies
from live_registry import Live, publish
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata
from tuf.ngclient import Updater

from frys_runtime.package import read_package
from frys_runtime.registry.paths import bin_of, index_path, package_path
from frys_runtime.registry_server import database, publishing, trust
from frys_runtime.registry_server.keys import Keyring, canonical
from frys_runtime.registry_server.settings import Settings
from frys_runtime.registry_server.tokens import Caller
from frys_runtime.signing import sign


class Client:
    """Somebody who trusts the first root, and keeps what python-tuf's client keeps."""

    def __init__(self, live: Live, folder: Path) -> None:
        self._folder = folder
        (folder / "targets").mkdir(parents=True)
        self.move(f"{live.url}/tuf")
        with live.client() as client:
            self._root = client.get(f"{live.url}/tuf/metadata/1.root.json").content

    def move(self, url: str) -> None:
        """The repository is somewhere else now."""
        self._url = url

    def look(self) -> Updater:
        """What is there now, verified."""
        updater = Updater(
            str(self._folder), f"{self._url}/metadata/", str(self._folder / "targets"),
            f"{self._url}/targets/", bootstrap=self._root,
        )  # fmt: skip
        updater.refresh()
        return updater

    def index(self, plugin: str):
        """All versions of a plugin, by number."""
        updater = self.look()
        target = updater.get_targetinfo(index_path(plugin))
        if target is None:
            return {}
        document = json.loads(Path(updater.download_target(target)).read_bytes())
        return {one["version"]: one for one in document["versions"]}

    def package(self, plugin: str, version: str) -> tuple[bytes, dict]:
        """A package and the facts about it."""
        updater = self.look()
        target = updater.get_targetinfo(package_path(plugin, version))
        return Path(updater.download_target(target)).read_bytes(), target.custom["frys"]


def test_what_is_published_is_trusted_at_once(registry, make_package, tmp_path):
    """A client that trusts the root finds a new version, its package and facts, and that it is yanked."""
    client = Client(registry, tmp_path / "client")
    needs = [{"pluginId": "base", "versionRange": "^1.0", "optional": True}]
    first, second = make_package("trusted"), make_package("trusted", "1.1.0", dependencies=needs)
    with registry.client(registry.admin) as admin:
        assert client.index("trusted") == {}
        assert publish(admin, first).status_code == 201
        assert list(client.index("trusted")) == ["1.0.0"]
        assert publish(admin, second).status_code == 201
        assert admin.put("/plugins/trusted/versions/1.0.0/yank", json={"reason": "wrong"}).json()["changed"]
        listed = client.index("trusted")
        api = admin.get("/plugins/trusted/versions").json()
        log = admin.get("/log").text.splitlines()

    assert (listed["1.0.0"]["yankedReason"], listed["1.1.0"]["yanked"]) == ("wrong", False)
    assert client.package("trusted", "1.0.0")[0] == first
    data, facts = client.package("trusted", "1.1.0")
    assert data == second
    assert facts["dependencies"] == [{"id": "base", "range": "^1.0", "optional": True}]
    assert {key: value for key, value in listed["1.1.0"].items() if key in facts} == facts
    assert api["versions"] == list(listed.values())
    (tmp_path / "log").write_text("\n".join([*log, ""]))
    assert b"WHOLE" in frys("audit", "verify", tmp_path / "log").stdout
    snapshot = json.loads((tmp_path / "client" / "snapshot.json").read_bytes())["signed"]
    assert snapshot["x-frys-log"] == {"seq": len(log), "hash": json.loads(log[-1])["hash"]}


def test_what_vouches_for_a_package_is_a_target_beside_it(registry, make_package, tmp_path):
    """A client gets the signature envelope and the Sigstore bundle from the same verified metadata."""
    data = make_package("vouched")
    beside = {
        "signature": sign(read_package(data), Ed25519PrivateKey.generate()),
        "bundle": b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
    }
    with registry.client(registry.admin) as admin:
        assert publish(admin, data, **beside).status_code == 201
    updater = Client(registry, tmp_path / "client").look()
    for suffix, kind in ((".sig", "signature"), (".sigstore.json", "bundle")):
        target = updater.get_targetinfo(trust.package_path("vouched", "1.0.0") + suffix)
        assert Path(updater.download_target(target)).read_bytes() == beside[kind]


def test_a_withdrawn_version_is_gone_for_everybody(registry, make_package, tmp_path):
    """An administrator takes a version away from TUF, API and OCI; owners cannot, nor give it back."""
    client = Client(registry, tmp_path / "client")
    acme = registry.token("acme", "publish:*", "yank:*")
    path = "/plugins/harmful/versions/1.1.0"
    with registry.client(acme) as owner, registry.client(registry.admin) as admin:
        for version in ("1.0.0", "1.1.0"):
            assert publish(owner, make_package("harmful", version)).status_code == 201
        digest = admin.get(path).json()["sha256"]
        target = f"{registry.url}/tuf/targets/{bin_of('harmful')}/harmful/{digest}.harmful-1.1.0.frys"
        blob = f"{registry.url}/v2/harmful/blobs/sha256:{digest}"
        assert [admin.get(one).status_code for one in (f"{path}/download", target, blob)] == [200, 200, 200]
        assert owner.put(f"{path}/withdrawal", json={"reason": "steals keys"}).status_code == 403
        assert admin.put(f"{path}/withdrawal", json={"reason": "steals keys"}).json() == {"changed": True}

        assert [admin.get(one).status_code for one in (f"{path}/download", target, blob)] == [410, 410, 410]
        assert client.index("harmful")["1.1.0"]["yankedReason"] == "steals keys"
        assert client.look().get_targetinfo(trust.package_path("harmful", "1.1.0")) is None
        assert owner.delete(f"{path}/yank").status_code == 409
        assert publish(owner, make_package("harmful", "1.1.0+again")).status_code == 409
        assert admin.get("/plugins/harmful").json()["latest"]["version"] == "1.0.0"
        assert admin.delete(f"{path}/withdrawal").json() == {"changed": True}
        assert admin.get(f"{path}/download").status_code == 200
        assert client.index("harmful")["1.1.0"]["yanked"] is True


def test_a_copy_as_plain_files_is_trusted_as_the_server_is(registry, make_package, tmp_path):
    """An exported copy serves a client over plain HTTP, and exporting again brings it up to date."""
    copy, handler = tmp_path / "copy", functools.partial(_Quiet, directory=str(tmp_path / "copy"))
    with registry.client(registry.admin) as admin:
        assert publish(admin, make_package("mirrored")).status_code == 201
        assert frys("registry", "export", registry.folder, copy).returncode == 0
        client = Client(registry, tmp_path / "client")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            client.move(f"http://127.0.0.1:{server.server_port}")
            assert list(client.index("mirrored")) == ["1.0.0"]
            data = make_package("mirrored", "1.1.0")
            assert publish(admin, data).status_code == 201
            assert list(client.index("mirrored")) == ["1.0.0"]
            done = frys("registry", "export", registry.folder, copy)
            assert done.returncode == 0
            assert list(client.index("mirrored")) == ["1.1.0", "1.0.0"]
            assert client.package("mirrored", "1.1.0")[0] == data
            server.shutdown()
    # The package, the list of versions, the publisher's role, the snapshot, and the timestamp.
    assert b": 5 new files" in done.stdout


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """Say nothing."""


def test_all_online_keys_are_replaced_while_it_runs(registry, make_package, tmp_path):
    """All online keys are revoked or rotated by the offline key; clients follow, the old keys are gone."""
    client = Client(registry, tmp_path / "client")
    with registry.client(registry.admin) as admin:
        assert publish(admin, make_package("rotated")).status_code == 201
        assert list(client.index("rotated")) == ["1.0.0"]
        before = {path.name for path in (registry.folder / "keys").iterdir()}
        listed = json.loads(frys("registry", "keys", "list", registry.folder, "--json").stdout)["roles"]
        stolen = {one["role"]: one["keys"][0] for one in listed}
        assert frys("registry", "keys", "revoke", registry.folder, "0" * 64).returncode == 2
        assert frys("registry", "keys", "revoke", registry.folder, stolen["timestamp"]).returncode == 0
        for role in ("snapshot", "publishers"):
            assert frys("registry", "keys", "rotate", registry.folder, role).returncode == 0
        drafts = sorted((registry.folder / "drafts").iterdir())
        assert [draft.name for draft in drafts] == ["root.json", "targets.json"]
        unsigned = frys("registry", "root", "apply", registry.folder)
        assert (unsigned.returncode, b"too few signatures" in unsigned.stderr) == (2, True)
        (key,) = registry.keys.iterdir()
        assert frys("registry", "root", "sign", *drafts, "--key", key).returncode == 0
        done = frys("registry", "root", "apply", registry.folder)
        assert done.returncode == 0, done.stderr.decode()

        assert list(client.index("rotated")) == ["1.0.0"]
        assert publish(admin, make_package("rotated", "1.1.0")).status_code == 201
        assert list(client.index("rotated")) == ["1.1.0", "1.0.0"]
    after = {path.name for path in (registry.folder / "keys").iterdir()}
    assert len(after) == 3
    assert not before & after
    roles = json.loads(frys("registry", "keys", "list", registry.folder, "--json").stdout)["roles"]
    assert {f"{one['keys'][0]}.pem" for one in roles if one["online"]} == after


def test_offline_keys_are_replaced_by_their_threshold(tmp_path, make_package):
    """One of two offline keys is replaced: old and new holders sign, and clients follow."""
    folder, keys, password = tmp_path / "r", tmp_path / "r-keys", tmp_path / "password"
    password.write_text("correct horse\n")
    words = ["--root-keys", keys, "--keys", "2", "--threshold", "2", "--password-file", password]
    made = json.loads(frys("registry", "init", folder, *words, "--json").stdout)["keys"]
    with live_registry.serving(folder) as live:
        client = Client(live, tmp_path / "client")
        client.look()
        words = ["root", "--root-keys", keys, "--drop", made[0], "--password-file", password]
        assert frys("registry", "keys", "rotate", folder, *words).returncode == 0
        assert frys("registry", "keys", "revoke", folder, made[1]).returncode == 2
        (new,) = {path.stem for path in keys.iterdir()} - set(made)
        drafts = sorted((folder / "drafts").iterdir())
        wrong = frys(
            "registry", "root", "sign", drafts[0], "--key", keys / f"{new}.pem", FRYS_ROOT_PASSWORD="x"
        )
        assert (wrong.returncode, b"password is wrong" in wrong.stderr) == (2, True)
        for number, name in enumerate((made[1], new, made[0])):
            assert frys("registry", "root", "apply", folder).returncode == 2, number
            words = [*drafts, "--key", keys / f"{name}.pem", "--password-file", password]
            assert frys("registry", "root", "sign", *words).returncode == 0
        assert frys("registry", "root", "apply", folder).returncode == 0
        with live.client(live.admin) as admin:
            assert publish(admin, make_package("still-there")).status_code == 201
        assert list(client.index("still-there")) == ["1.0.0"]
        assert frys("registry", "root", "renew", folder).returncode == 0
        root = json.loads((folder / "drafts" / "root.json").read_bytes())["signed"]
        assert root["version"] == 3
        assert set(root["roles"]["root"]["keyids"]) == {made[1], new}


def test_metadata_is_signed_again_before_it_expires(tmp_path, make_package):
    """Without anybody publishing, timestamp, snapshot and publishers' metadata are renewed in time."""
    folder = live_registry.make(tmp_path / "r", timestampLifetime=20, snapshotLifetime=30, roleLifetime=9)
    with live_registry.serving(folder) as live, live.client(live.admin) as admin:
        assert publish(admin, make_package("long-lived")).status_code == 201
        client = Client(live, tmp_path / "client")

        def version(role: str) -> int:
            client.index("long-lived")
            return json.loads((tmp_path / "client" / f"{role}.json").read_bytes())["signed"]["version"]

        before = version("publisher-1")
        for _ in range(300):
            if version("publisher-1") > before:
                break
            threading.Event().wait(0.1)
        assert version("publisher-1") > before


def test_a_publisher_with_much_gets_several_roles(tmp_path, make_package, monkeypatch):
    """Metadata of a publisher stays small: ids go to further parts, and clients find all of them."""
    monkeypatch.setattr(trust, "MAX_PART", 2)
    folder = live_registry.make(tmp_path / "r")
    admin = live_registry.token(folder, "admin", "admin")
    db = database.connect(folder)
    signer = trust.Trust(Keyring(folder), Settings())
    caller = Caller("", 1, "admin", ("admin",))
    ids = [f"part-{number}" for number in range(5)]
    for plugin, version in [*((one, "1.0.0") for one in ids), *(("part-0", f"1.0.{n}") for n in range(1, 4))]:
        data = make_package(plugin, version)
        candidate = publishing.Candidate(read_package(data), b'{"format":"python"}', "", {}, ())
        with database.transaction(db):
            publishing.publish(db, signer, Settings(), caller, candidate)
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()[:2] / hashlib.sha256(data).hexdigest()
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(data)
    parts = [
        row["role"].removeprefix("publisher-1") for row in db.execute("SELECT role FROM plugins ORDER BY id")
    ]
    db.close()

    assert parts == ["-3", "", "-2", "-2", "-3"]
    with live_registry.serving(folder, admin=admin) as live:
        client = Client(live, tmp_path / "client")
        assert len(client.index("part-0")) == 4
        for plugin in ids:
            assert client.package(plugin, "1.0.0")[1]["id"] == plugin


def test_metadata_signed_by_others_is_refused(registry, make_package, tmp_path):
    """What the registry serves stands on its keys: a byte changed makes the real client refuse it."""
    with registry.client() as client:
        data = client.get(f"{registry.url}/tuf/metadata/timestamp.json").content
        root = Metadata.from_bytes(client.get(f"{registry.url}/tuf/metadata/1.root.json").content)
    spoiled = Metadata.from_bytes(data.replace(b'"version":', b'"version":1', 1))
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    with pytest.raises(RepositoryError):
        root.signed.verify_delegate("timestamp", spoiled.signed_bytes, spoiled.signatures)


_TEXT = strategies.text(strategies.characters(exclude_categories=("Cs", "Cc")))


@given(
    strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.integers(-(1 << 53), 1 << 53) | _TEXT,
        lambda inner: strategies.lists(inner) | strategies.dictionaries(_TEXT, inner),
    )
)
def test_our_canonical_json_is_that_of_the_specification(value):
    """The fast encoder writes what securesystemslib's does."""
    assert canonical(value) == encode_canonical(value).encode()


@given(strategies.text(strategies.characters(min_codepoint=0, max_codepoint=31), min_size=1))
def test_control_characters_are_never_signed(text):
    """Where the two encoders would differ, nothing is signed."""
    with pytest.raises(ValueError, match="control character"):
        canonical({"text": text})


def test_settings_are_read_strictly(tmp_path):
    """A wrong key of registry.json is an error that names it, and a folder without one is no registry."""
    folder = live_registry.make(tmp_path / "r", maxPackages=1)
    refused = frys("registry", "serve", folder, "--port", "0")
    assert (refused.returncode, b"maxPackages" in refused.stderr) == (2, True)
    nothing = frys("registry", "token", "list", tmp_path)
    assert (nothing.returncode, b"frys registry init" in nothing.stderr) == (2, True)
    again = frys("registry", "init", folder)
    assert (again.returncode, b"not empty" in again.stderr) == (2, True)
    assert msgspec.json.decode((folder / "registry.json").read_bytes())["title"] == "Frys plugins"
