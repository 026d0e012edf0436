"""Signatures by identities: a bundle of Sigstore's public instance, verified offline, and spoiled."""

import hashlib
import json
import sys
from pathlib import Path

import packages
import pytest
from command import frys

from frys_runtime.errors import ConfigError, InvalidFormat, LoadFailed
from frys_runtime.isolation import judge_signatures
from frys_runtime.package import read_package
from frys_runtime.policy_signatures import Identity, Signatures
from frys_runtime.signing import Signed
from frys_runtime.sigstore_bundle import MAX_BUNDLE, verify_bundle

DATA = Path(__file__).parent / "data"
BUNDLE = (DATA / "a.txt.sigstore.json").read_bytes()
DIGEST = hashlib.sha256((DATA / "a.txt").read_bytes()).hexdigest()
WHO = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
ISSUER = "https://token.actions.githubusercontent.com"
BEACON = Identity("beacon", WHO, ISSUER)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """The library keeps its trust root in the user's cache; here it starts with the one that it brings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_a_bundle_of_the_public_instance():
    """Whose certificate it is has signed, and nobody whose name or issuer is another."""
    others = [
        Identity("branch", WHO.replace("main", "evil"), ISSUER),
        Identity("prefix", WHO[:-1], ISSUER),
        Identity("issuer", WHO, "https://accounts.google.com"),
    ]

    assert verify_bundle(BUNDLE, DIGEST, [*others, BEACON], "x") == (("beacon",), "")
    names, why = verify_bundle(BUNDLE, DIGEST, others, "x")
    assert names == ()
    assert why


def test_nothing_is_logged(caplog):
    """Verifying offline is what is wanted, and nothing to warn the host's log of."""
    verify_bundle(BUNDLE, DIGEST, [BEACON], "x")
    verify_bundle(BUNDLE, DIGEST, [BEACON], "x")

    assert caplog.records == []


def test_a_bundle_of_another_file():
    """The digest that is asked about decides, not the one in the bundle."""
    names, why = verify_bundle(BUNDLE, hashlib.sha256(b"").hexdigest(), [BEACON], "x")

    assert (names, why.isprintable()) == ((), True)


def leaves(value, path=()):
    """The paths of all texts in a JSON document."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    elif isinstance(value, str):
        yield path


def spoiled(path, quarter: int) -> bytes:
    document = json.loads(BUNDLE)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    text = inner[path[-1]]
    at = len(text) * quarter // 4
    inner[path[-1]] = text[:at] + ("B" if text[at] != "B" else "C") + text[at + 1 :]
    return json.dumps(document).encode()


PATHS = list(leaves(json.loads(BUNDLE)))


@pytest.mark.parametrize("quarter", [1, 3])
@pytest.mark.parametrize("path", PATHS, ids=[".".join(map(str, path)) for path in PATHS])
def test_every_part_of_a_bundle_counts(path, quarter):
    """Certificate, signature, digest, log entry, proof, checkpoint: with any changed nobody has signed."""
    try:
        found = verify_bundle(spoiled(path, quarter), DIGEST, [BEACON], "x")
    except InvalidFormat:
        return
    assert found.names == ()
    assert found.why.isprintable()


@pytest.mark.parametrize(
    "junk",
    [b"", b"{}", b"[]", b"null", b"\xff\x1b[2J", b"[" * 100_000, BUNDLE[:-200], b" " * (MAX_BUNDLE + 1)],
    ids=range(8),
)
def test_what_is_no_bundle(junk):
    """Junk is one clear refusal."""
    with pytest.raises(InvalidFormat, match="is not a Sigstore bundle"):
        verify_bundle(junk, DIGEST, [BEACON], "x")


def test_without_the_library(monkeypatch):
    """Where the extra is not installed a policy that needs it loads nothing, and says what to install."""
    monkeypatch.setitem(sys.modules, "sigstore.errors", None)

    with pytest.raises(ConfigError, match=r'pip install "frys-runtime\[sigstore\]"'):
        verify_bundle(BUNDLE, DIGEST, [BEACON], "x")


def test_a_package_beside_a_bundle_of_another_file(tmp_path):
    """A bundle that is sound but about something else signs no package."""
    package = read_package(packages.archive())
    wanted = Signatures(required=True, identities=(BEACON,))
    evidence = Signed(package, None, "x.sig", BUNDLE, "x.sigstore.json")

    with pytest.raises(LoadFailed, match=r"1 of the keys beacon, and it has 0: the signature in x\.sigstore"):
        judge_signatures(wanted, evidence, "x")
    with pytest.raises(LoadFailed, match=r"no file x\.sigstore\.json beside it"):
        judge_signatures(wanted, evidence._replace(bundle=None), "x")
    path = tmp_path / "mine.frys"
    path.write_bytes(packages.archive())
    (tmp_path / "mine.frys.sigstore.json").write_bytes(BUNDLE)
    done = frys("verify", path, "--identity", WHO, "--issuer", ISSUER, HOME=str(tmp_path))
    assert (done.returncode, b"none of theirs" in done.stderr) == (1, True), done.stderr
    assert b"belong together" in frys("verify", path, "--identity", WHO).stderr


def test_a_home_that_cannot_be_written(monkeypatch):
    """Where the library cannot keep its trust root nothing is believed, and the sentence says so."""
    monkeypatch.setenv("HOME", "/proc/nowhere")

    with pytest.raises(ConfigError, match="no trust root that it can read"):
        verify_bundle(BUNDLE, DIGEST, [BEACON], "x")
