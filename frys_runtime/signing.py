"""Signatures of packages: Ed25519, in a DSSE envelope, over an in-toto statement about one package.

The envelope lies beside the package, as ``id-version.frys.sig``. docs/signing.md has the format; it follows
https://github.com/secure-systems-lab/dsse (protocol 1.0) and https://in-toto.io/Statement/v1, so other tools
can make and read it. Nothing in it is believed before a key that the caller names has signed it.
"""

import base64
import json
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from .errors import ConfigError, InvalidFormat, LoadFailed
from .folder import SPECIAL, chunks, reason
from .metadata import convert, decode_object
from .package import Package
from .policy_signatures import TrustedKey
from .signing_keys import key_id, public_bytes
from .sigstore_bundle import MAX_BUNDLE, SUFFIX as BUNDLE_SUFFIX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX: Final = ".sig"
"""What the name of the file with the signatures has behind the package's."""

MAX_ENVELOPE: Final = 64 << 10
"""Bytes of an envelope."""
MAX_SIGNATURES: Final = 16

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:frys:package:v1"

_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Signed(NamedTuple):
    """A package, and what was found beside it.

    Attributes:
        package: The package.
        envelope: The bytes of its signature file; ``None`` when there is none.
        path: That file, for errors.
        bundle: The bytes of its Sigstore bundle; ``None`` when there is none.
        bundle_path: That file, for errors.
    """

    package: Package
    envelope: bytes | None
    path: str
    bundle: bytes | None = None
    bundle_path: str = ""


def look_beside(package: Package, path: str) -> Signed:
    """A package with what lies beside it.

    Args:
        package: Read from the bytes that are then used.
        path: Its file.

    Raises:
        LoadFailed: Something lies there that cannot be read.
    """
    beside, bundle = path + SUFFIX, path + BUNDLE_SUFFIX
    return Signed(package, read_beside(beside, MAX_ENVELOPE), beside, read_beside(bundle, MAX_BUNDLE), bundle)


class Verified(NamedTuple):
    """Who has signed a package.

    Attributes:
        names: The keys, by the names that the caller gave them, each once.
        signed_at: When, in the words of the first who signed (RFC 3339, UTC); empty when nobody has.
    """

    names: tuple[str, ...]
    signed_at: str


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sig: str
    keyid: Annotated[str, Meta(max_length=256)] = ""


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)]


# What is signed.


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a signature is over: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _statement(package: Package, signed_at: str) -> dict[str, Any]:
    """What a signer says about a package: all of it follows from the package, but for the time."""
    about = package.metadata
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": package.file_name, "digest": {"sha256": package.digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "id": about.id,
            "version": about.version,
            "format": str(about.format),
            "permissions": sorted(map(str, about.permissions)),
            "optionalPermissions": sorted(map(str, about.optional_permissions)),
            "signedAt": signed_at,
        },
    }


def _check_statement(payload: bytes, package: Package, name: str) -> str:
    """Refuse a statement that is not the one about this package; when it was made."""
    try:
        said = decode_object(payload, "the payload", MAX_ENVELOPE)
    except ConfigError as error:
        raise _odd(package, name, str(error)) from None
    predicate = said.get("predicate")
    signed_at = predicate.get("signedAt") if isinstance(predicate, dict) else None
    if not isinstance(signed_at, str) or not _is_time(signed_at):
        signed_at = "missing"
    wanted = _statement(package, signed_at)
    for key in wanted:
        if said.get(key) != wanted[key]:
            raise _odd(package, name, _DIFFERENT[key])
    if len(said) != len(wanted) or signed_at == "missing":
        raise _odd(package, name, "what was signed has other keys than such a statement has")
    return signed_at


_DIFFERENT: Final = {
    "_type": f"what was signed is no statement of the type {STATEMENT_TYPE}",
    "subject": "what was signed is another file: its name or its SHA-256 is not this package's",
    "predicateType": f"what was signed says something else than {PREDICATE_TYPE} does",
    "predicate": "what was signed about the plugin is not what the package says of itself",
}


def _is_time(text: str) -> bool:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC).strftime(_TIME) == text
    except ValueError:
        return False


def _odd(package: Package, name: str, found: str) -> InvalidFormat:
    return InvalidFormat(name, f"a signature of {package.file_name}", found)


# The envelope.


def read_beside(path: str | os.PathLike[str], most: int = MAX_ENVELOPE) -> bytes | None:
    """The bytes of a signature file, and one more than it may have at most; ``None`` when there is none.

    Raises:
        LoadFailed: It cannot be read.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LoadFailed(name, reason(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise LoadFailed(name, SPECIAL)
        return b"".join(chunks(fd, most + 1))
    except OSError as error:
        raise LoadFailed(name, reason(error)) from None
    finally:
        os.close(fd)


def _open(envelope: bytes, package: Package, name: str) -> tuple[_Envelope, bytes]:
    """The envelope and its payload, of which nothing is known yet but that it can be read."""
    try:
        found = convert(decode_object(envelope, name, MAX_ENVELOPE), _Envelope, name, "")
        payload = _from_base64(found.payload)
    except ConfigError as error:
        raise _odd(package, name, str(error)) from None
    except ValueError:
        raise _odd(package, name, "its payload is not base64") from None
    if found.payload_type != PAYLOAD_TYPE:
        raise _odd(package, name, f"its payloadType is {found.payload_type[:80]!a}, not {PAYLOAD_TYPE}")
    return found, payload


def _from_base64(text: str) -> bytes:
    """Base64 in either alphabet, as DSSE demands, but in one spelling of each.

    Raises:
        ValueError: It is another thing.
    """
    data = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    if text not in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        raise ValueError("not the one spelling")
    return data


def sign(
    package: Package,
    key: "Ed25519PrivateKey",
    *,
    envelope: bytes | None = None,
    name: str = "the signature file",
    when: datetime | None = None,
) -> bytes:
    """Sign a package.

    Args:
        package: Read from its bytes by :func:`frys_runtime.package.read_package`.
        key: From :func:`read_key`.
        envelope: Signatures of others, to which this one is added. It must be about this very package; the
            time in it stays that of the first who signed.
        name: How to name the envelope in errors.
        when: The time to state; by default now.

    Returns:
        The envelope, for a file beside the package.

    Raises:
        InvalidFormat: The envelope is not one about this package, or is full.
    """
    public = public_bytes(key)
    others: tuple[_Signature, ...] = ()
    if envelope is None:
        signed_at = (when or datetime.now(UTC)).astimezone(UTC).strftime(_TIME)
        payload = json.dumps(_statement(package, signed_at), ensure_ascii=False).encode()
    else:
        found, payload = _open(envelope, package, name)
        _check_statement(payload, package, name)
        others = found.signatures
    message = pae(PAYLOAD_TYPE, payload)
    if any(_is_by(other, public, message) for other in others):
        assert envelope is not None, "there are no others without one"
        return envelope
    if len(others) >= MAX_SIGNATURES:
        raise _odd(
            package, name, f"it has {MAX_SIGNATURES} signatures already, which is as many as there can be"
        )
    own = _Signature(base64.b64encode(key.sign(message)).decode(), key_id(public))
    made = _Envelope(base64.b64encode(payload).decode(), PAYLOAD_TYPE, (*others, own))
    return json.dumps(msgspec.to_builtins(made), indent=1).encode() + b"\n"


def verify(
    envelope: bytes, package: Package, keys: Iterable[TrustedKey], name: str = "the signature file"
) -> Verified:
    """Tell who of those whom the caller trusts has signed a package.

    Keys that may not sign plugins of this id do not count, signatures by others and wrong ones neither, and a
    key that has signed twice counts once. How many are enough is the caller's word.

    Args:
        envelope: The bytes of the file beside the package.
        package: Read from the very bytes that are then used.
        keys: Whom to trust, each key once.
        name: How to name the envelope in errors.

    Raises:
        InvalidFormat: It is no such envelope, or one of the keys has signed something else with it.
    """
    found, payload = _open(envelope, package, name)
    message = pae(PAYLOAD_TYPE, payload)
    trusted = [key for key in keys if key.may_sign(package.metadata.id)]
    names = tuple(
        key.name for key in trusted if any(_is_by(one, key.key, message) for one in found.signatures)
    )
    if not names:
        return Verified((), "")  # nobody vouches for the payload, so nobody reads it
    return Verified(names, _check_statement(payload, package, name))


def _is_by(signature: _Signature, public: bytes, message: bytes) -> bool:
    """Whether a key has made a signature over a message; the key's id is no more than a hint."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if _KEY_ID.fullmatch(signature.keyid) and signature.keyid != key_id(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(_from_base64(signature.sig), message)
    except (InvalidSignature, ValueError):
        return False
    return True
