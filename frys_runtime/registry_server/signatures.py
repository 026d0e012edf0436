"""The signature envelope that comes with a package: that it is about this package, and which keys it names.

The registry does not judge keys: it does not know whom its users trust. Their policies do, on the very bytes
that they load.
"""

import base64
import binascii
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from ..package import Package
from .http import Refusal

_PAYLOAD: Final = "application/vnd.in-toto+json"

_PLAIN: Final = str.maketrans("-_", "+/")  # DSSE allows both alphabets
_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")


class _Signature(msgspec.Struct, frozen=True):
    sig: Annotated[str, Meta(min_length=1, max_length=1024)]
    keyid: Annotated[str, Meta(max_length=256)] = ""


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=16)]


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str


class _Subject(msgspec.Struct, frozen=True):
    digest: dict[str, Any]


class _Statement(msgspec.Struct, frozen=True):
    subject: Annotated[tuple[_Subject, ...], Meta(min_length=1, max_length=1)]


def check_bundle(bundle: bytes) -> None:
    """Look whether this can be a bundle of Sigstore; what is in it, is for a policy to judge.

    Raises:
        Refusal: It is none.
    """
    try:
        kind = msgspec.json.decode(bundle, type=_Bundle).media_type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(422, f"the bundle is none of Sigstore: {error}") from None
    if not kind.startswith("application/vnd.dev.sigstore.bundle"):
        raise Refusal(422, f"the bundle is of the type {kind[:80]!r}, which is none of Sigstore's")


def signers_of(envelope: bytes, package: Package) -> tuple[str, ...]:
    """The ids of the keys whose signatures are in an envelope.

    Raises:
        Refusal: It is no envelope, or one of another package.
    """
    try:
        opened = msgspec.json.decode(envelope, type=_Envelope)
        payload = base64.b64decode(opened.payload.translate(_PLAIN), validate=True)
        statement = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(422, f"the signature is no DSSE envelope as `frys sign` makes it: {error}") from None
    if opened.payload_type != _PAYLOAD:
        raise Refusal(422, f"the signature's payload is {opened.payload_type[:80]!r}, not {_PAYLOAD}")
    if statement.subject[0].digest.get("sha256") != package.digest:
        raise Refusal(
            422,
            "the signature is one of other bytes than this package's; sign this package, and publish both",
        )
    named = {signature.keyid for signature in opened.signatures}
    return tuple(sorted(filter(_KEY_ID.fullmatch, named)))
