"""Signatures of packages: who has signed what is told from the very bytes, and anything odd is refused."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import packages
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, strategies as st

from frys_runtime.errors import InvalidFormat, LoadFailed
from frys_runtime.isolation import judge_signatures
from frys_runtime.package import read_package
from frys_runtime.policy_signatures import Signatures, TrustedKey
from frys_runtime.signing import MAX_ENVELOPE, PAYLOAD_TYPE, Signed, Verified, pae, sign, verify
from frys_runtime.signing_keys import key_id, public_bytes

ABOUT = json.loads(packages.ABOUT)
PACKAGE = read_package(packages.archive())
WHEN = datetime(2026, 11, 26, 17, 0, tzinfo=UTC)
KEYS = {name: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()) for name in "abc"}
TRUSTED = {name: TrustedKey(name, public_bytes(key)) for name, key in KEYS.items()}


def signed(*names: str, package=PACKAGE) -> bytes:
    """An envelope signed by some of the keys, one after the other."""
    envelope = None
    for name in names:
        envelope = sign(package, KEYS[name], envelope=envelope, when=WHEN)
    return envelope


def other_package(**changes: object):
    """A package that says something else of itself."""
    about = json.dumps({**ABOUT, **changes}).encode()
    return read_package(packages.archive({**packages.FILES, "plugin.json": about}))


def names(envelope: bytes, package=PACKAGE, trusted=TRUSTED) -> tuple[str, ...]:
    return verify(envelope, package, trusted.values()).names


def statement(envelope: bytes) -> dict:
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


def forged(said: object, *names: str, kind: str = PAYLOAD_TYPE) -> bytes:
    """An envelope over any payload, truly signed."""
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    signatures = [
        {"sig": base64.b64encode(KEYS[name].sign(pae(kind, payload))).decode()} for name in names or ("a",)
    ]
    return json.dumps(
        {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": signatures}
    ).encode()


# The formats of others.


def test_pae_is_that_of_the_dsse_protocol():
    """The example of DSSE's protocol.md: its encoding, and its signature over just that."""
    encoded = pae("http://example.com/HelloWorld", b"hello world")
    signature = base64.b64decode(
        "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    )
    public = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    ).public_key()
    r_and_s = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))

    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    public.verify(encode_dss_signature(*r_and_s), encoded, ec.ECDSA(hashes.SHA256()))
    assert pae("ä", b"") == b"DSSEv1 2 \xc3\xa4 0 "


@pytest.mark.parametrize(
    ("seed", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "2WAfaHm5jluo0w+0rk8uVkluELJYWjSmU9x7EUzx+AyteDGJ4/nqyJXfmAUVFIAoQafWm7AxBZNw5M9ixNHiCA==",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "c1+67/aT0yqEpwx8PsVY3MLHsj9D0CZ014/Fv/QlG59P+9CobUZ7xECJ/V3USG0Ob9CiE5LjReEZUzNF2l7eBw==",
        ),
    ],
)
def test_signatures_are_those_of_dsse_with_ed25519(seed, signature):
    """DSSE's test vectors with the keys of RFC 8032, section 7.1, over the smallest statement."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))

    made = key.sign(pae(PAYLOAD_TYPE, b'{"_type":"https://in-toto.io/Statement/v1"}'))

    assert base64.b64encode(made).decode() == signature


STATEMENT_SCHEMA = {
    "type": "object",
    "required": ["_type", "subject", "predicateType", "predicate"],
    "properties": {
        "_type": {"const": "https://in-toto.io/Statement/v1"},
        "subject": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "digest"],
                "properties": {
                    "name": {"type": "string"},
                    "digest": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]+$"},
                    },
                },
            },
        },
        "predicateType": {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:.+"},
        "predicate": {"type": "object"},
    },
}
"""Of https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md."""


def test_what_is_signed():
    """The payload is an in-toto statement about this file, which says what the plugin is and asks for."""
    package = other_package(permissions=["Read", "Network"], optionalPermissions=["Write"])
    said = statement(sign(package, KEYS["a"], when=WHEN.astimezone(timezone(timedelta(hours=5)))))

    jsonschema.validate(said, STATEMENT_SCHEMA)
    assert said["subject"] == [{"name": "mine-1.2.3.frys", "digest": {"sha256": package.digest}}]
    assert said["predicate"] == {
        "id": "mine",
        "version": "1.2.3",
        "format": "python",
        "permissions": ["Network", "Read"],
        "optionalPermissions": ["Write"],
        "signedAt": "2026-11-26T17:00:00Z",
    }
    assert verify(sign(package, KEYS["a"], when=WHEN), package, TRUSTED.values()) == Verified(
        ("a",), "2026-11-26T17:00:00Z"
    )


# Who has signed.


def test_signatures_of_several():
    """Each signer adds a signature to the same statement; one who has signed changes nothing by it."""
    both = signed("a", "b")

    assert names(both) == ("a", "b")
    assert statement(both) == statement(signed("a"))
    assert sign(PACKAGE, KEYS["a"], envelope=both) == both
    assert [one["keyid"] for one in json.loads(both)["signatures"]] == [
        key_id(public_bytes(KEYS[name])) for name in "ab"
    ]
    assert names(both, trusted={"b": TRUSTED["b"]}) == ("b",)
    assert names(both, trusted={"c": TRUSTED["c"]}) == ()
    assert verify(both, PACKAGE, ()) == Verified((), "")


def test_a_key_counts_once():
    """A signature that stands there twice, with or without its key's id, is one of one key."""
    envelope = json.loads(signed("a"))
    (one,) = envelope["signatures"]
    envelope["signatures"] = [one, one, {"sig": one["sig"]}, {"sig": one["sig"], "keyid": "another"}]

    assert names(json.dumps(envelope).encode()) == ("a",)


def test_the_hint_decides_nothing():
    """A key's id is not believed: a wrong one at worst hides a signature, and none is needed."""
    envelope = json.loads(signed("a", "b"))
    first, second = envelope["signatures"]
    swapped = {
        **envelope,
        "signatures": [{**first, "keyid": second["keyid"]}, {**second, "keyid": first["keyid"]}],
    }
    bare = {**envelope, "signatures": [{"sig": first["sig"]}, {"sig": second["sig"], "keyid": ""}]}

    assert names(json.dumps(swapped).encode()) == ()
    assert names(json.dumps(bare).encode()) == ("a", "b")


def test_a_key_for_other_plugins_does_not_count():
    """A key signs the ids that it may, and no look-alike."""
    trusted = {
        "a": TrustedKey("a", public_bytes(KEYS["a"]), ("other", "min?-*")),
        "b": TrustedKey("b", public_bytes(KEYS["b"]), ("mi*",)),
    }

    assert names(signed("a", "b"), trusted=trusted) == ("b",)


def test_url_safe_base64_is_read():
    """DSSE has verifiers accept both alphabets."""
    envelope = json.loads(signed("a", "b", "c"))
    for one in envelope["signatures"]:
        one["sig"] = one["sig"].replace("+", "-").replace("/", "_")
    envelope["payload"] = envelope["payload"].replace("+", "-").replace("/", "_")

    assert names(json.dumps(envelope).encode()) == ("a", "b", "c")


def test_every_byte_of_a_signature_file_counts():
    """With any byte different, a file with one signature either counts for nobody or is refused."""
    envelope = json.dumps(json.loads(signed("a"))).encode()
    same = 0
    for at in range(len(envelope)):
        changed = envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]
        try:
            same += names(changed) == ("a",)
        except InvalidFormat:
            continue
    # Only the hint of the key, which nobody believes, may differ where it is then no hint any more.
    assert same <= 64


# What else is signed does not count.


def test_signatures_are_about_one_package():
    """An envelope of another version, id or content is refused, though a trusted key made it."""
    for package in (
        other_package(version="1.2.4"),
        other_package(id="yours"),
        other_package(description="more"),
        read_package(packages.archive({**packages.FILES, "more.py": b""})),
    ):
        with pytest.raises(InvalidFormat, match=r"a signature of .*: what was signed is another file"):
            names(signed("a"), package)
        with pytest.raises(InvalidFormat, match="another file"):
            sign(package, KEYS["b"], envelope=signed("a"))
        assert names(signed("a", package=package), package) == ("a",)


def change(**changes):
    return lambda said: {**said, **changes}


def predicate(**changes):
    return lambda said: {**said, "predicate": {**said["predicate"], **changes}}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (change(_type="https://in-toto.io/Statement/v0.1"), "Statement/v1"),
        (change(predicateType="https://slsa.dev/provenance/v1"), "something else"),
        (change(subject=[]), "another file"),
        (change(subject=statement(signed("a"))["subject"] * 2), "another file"),
        (change(subject=[{"name": "mine-1.2.3.frys"}]), "another file"),
        (change(predicate=[]), "what the package says"),
        (predicate(permissions=["Read"]), "what the package says"),
        (predicate(id="other"), "what the package says"),
        (predicate(more=1), "what the package says"),
        (predicate(signedAt="yesterday"), "what the package says|other keys"),
        (predicate(signedAt="2026-11-26T17:00:00+01:00"), "what the package says|other keys"),
        (predicate(signedAt=5), "what the package says|other keys"),
        (predicate(signedAt="missing"), "other keys"),
        (change(more=1), "other keys"),
        (lambda _: [], "JSON object"),
        (lambda _: b"\xff", "UTF-8"),
        (lambda _: b"", "JSON"),
        (lambda said: json.dumps(said).encode().replace(b"{", b'{"_type": 1, ', 1), "twice"),
        (lambda _: b"[" * 10_000, "nested|JSON"),
    ],
)
def test_a_trusted_key_that_signed_something_else(spoil, why):
    """What a trusted key has truly signed must be the statement about this package, word for word."""
    envelope = forged(spoil(statement(signed("a"))))

    with pytest.raises(InvalidFormat, match=why):
        names(envelope)
    assert names(envelope, trusted={"b": TRUSTED["b"]}) == ()


def envelope_with(**changes) -> bytes:
    return json.dumps({**json.loads(signed("a")), **changes}).encode()


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        (forged(statement(signed("a")), kind="text/plain"), "payloadType is 'text/plain'"),
        (forged(statement(signed("a")), kind=""), "payloadType is ''"),
        (envelope_with(payloadType="a\x1b[2Jb"), r"'a\\x1b\[2Jb'"),
        (envelope_with(payloadType=None), "payloadType"),
        (envelope_with(payload="!"), "base64"),
        (envelope_with(payload="aGk"), "base64"),
        (envelope_with(payload="aGl="), "base64"),
        (envelope_with(payload=json.loads(signed("a"))["payload"] + "\n"), "base64"),
        (envelope_with(signatures=[]), "signatures"),
        (envelope_with(signatures={}), "signatures"),
        (envelope_with(signatures=[{"sig": ""}] * 17), "signatures"),
        (envelope_with(signatures=[{"keyid": "a"}]), "sig"),
        (envelope_with(signatures=[{"sig": "", "cert": "x"}]), "cert|belongs"),
        (envelope_with(more=1), "more|belongs"),
        (b"", "JSON"),
        (b"{}", "is missing"),
        (b"[]", "JSON object"),
        (b"\xff", "UTF-8"),
        (b"[" * 60_000, "nested|JSON"),
        (signed("a") + b" " * MAX_ENVELOPE, f"at most {MAX_ENVELOPE}"),
        (signed("a").replace(b'"payload"', b'"payload": "", "payload"', 1), "twice"),
    ],
)
def test_what_is_no_signature_file(envelope, why):
    """Whatever lies beside a package and is no envelope about it is one clear refusal."""
    with pytest.raises(InvalidFormat, match=why) as caught:
        verify(envelope, PACKAGE, TRUSTED.values(), "x.frys.sig")
    assert caught.value.path == "x.frys.sig"
    assert str(caught.value).isprintable()


words = st.sampled_from(
    ["payload", "payloadType", "signatures", "sig", "keyid", "_type", "subject", "predicate", "signedAt", "x"]
)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(tree=trees, place=st.sampled_from(["envelope", "payload", "statement", "predicate", "signatures"]))
def test_no_tree_raises_anything_else(tree, place):
    """Whatever stands in an envelope, or was truly signed: nobody has signed, or one of our errors."""
    said, envelope = statement(signed("a")), json.loads(signed("a"))
    if place in ("envelope", "signatures"):
        text = tree if place == "envelope" else {**envelope, "signatures": tree}
        data = json.dumps(text).encode()
    elif place == "predicate":
        data = forged({**said, "predicate": tree})
    else:
        data = forged({**said, **tree} if place == "statement" and isinstance(tree, dict) else tree)
    try:
        found = names(data)
    except InvalidFormat:
        return
    assert found == () or data == forged(said)


@pytest.mark.parametrize("text", ["", "AAAA", "!", "A" * 86 + "==", "A" * 85 + "B=="])
def test_signatures_that_are_none(text):
    """A signature of the wrong length, of zeros, or in no base64 is no signature, and no error."""
    envelope = json.loads(signed("a", "b"))
    envelope["signatures"][0] = {"sig": text}

    assert names(json.dumps(envelope).encode()) == ("b",)


def test_there_is_an_end_to_signatures():
    """The seventeenth signer is told that there is no more room."""
    envelope = None
    for number in range(16):
        key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        envelope = sign(PACKAGE, key, envelope=envelope, when=WHEN)
    assert len(envelope) < MAX_ENVELOPE
    with pytest.raises(InvalidFormat, match="16 signatures already"):
        sign(PACKAGE, KEYS["a"], envelope=envelope)


def test_the_library_verifies_as_we_think():
    """That cryptography refuses a signature is shown, not assumed."""
    key = KEYS["a"].public_key()
    with pytest.raises(InvalidSignature):
        key.verify(bytes(64), b"")


# The judgement.


@pytest.mark.parametrize(
    ("by", "outcome"),
    [
        ("ab", "signed by a, b"),
        ("abc", "signed by a, b, c"),
        ("a", r"2 of the keys a, b, c, and it has 1 \(a\): no other signature in x.sig is one of theirs"),
        ("", r"2 of the keys a, b, c, and it has 0: there is no file x\.sig beside it"),
    ],
)
def test_as_many_as_the_policy_says(by, outcome):
    """As many of the policy's own keys must have signed as it says."""
    wanted = Signatures(required=True, keys=tuple(TRUSTED.values()), threshold=2)
    evidence = Signed(PACKAGE, signed(*by) if by else None, "/plugins/x.sig")

    if outcome.startswith("signed"):
        assert judge_signatures(wanted, evidence, "x") == outcome
        return
    with pytest.raises(LoadFailed, match=outcome):
        judge_signatures(wanted, evidence, "x")


def test_fewer_keys_for_a_plugin_than_the_threshold():
    """Where not enough keys may sign a plugin, none that are there help."""
    limited = TrustedKey("b", public_bytes(KEYS["b"]), ("other",))
    wanted = Signatures(required=True, keys=(TRUSTED["a"], limited), threshold=2)

    with pytest.raises(LoadFailed, match=r"2 of the keys a, and it has 0: .* lets no other sign mine"):
        judge_signatures(wanted, Signed(PACKAGE, signed("a", "b"), "x.sig"), "x")
    assert judge_signatures(Signatures(), Signed(PACKAGE, b"junk", "x.sig"), "x") == "none required"
