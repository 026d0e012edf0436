"""Signatures by identities: Sigstore bundles beside packages, verified without a network.

`sigstore sign my-plugin-1.2.3.frys` writes `my-plugin-1.2.3.frys.sigstore.json`, as cosign can: a signature
over the package, the certificate that Fulcio gave to an identity for some minutes, and the proof that the log
Rekor has seen it in that time. The library sigstore verifies all of it with the trust root that comes with
it, or a newer one that it has fetched.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import ConfigError, InvalidFormat
from .policy_signatures import Identity

if TYPE_CHECKING:
    from sigstore.verify import Verifier

SUFFIX: Final = ".sigstore.json"
"""What the name of the bundle has behind the package's."""

MAX_BUNDLE: Final = 256 << 10
"""Bytes of a bundle."""


class Outcome(NamedTuple):
    """What a bundle says.

    Attributes:
        names: The identities, by the names that the policy gives them, that have signed.
        why: Why there are none, in the library's words; empty when there are some.
    """

    names: tuple[str, ...]
    why: str


def verify_bundle(bundle: bytes, digest: str, identities: Iterable[Identity], name: str) -> Outcome:
    """Tell which of the identities that the caller trusts has signed a file.

    Args:
        bundle: The bytes of the file beside the package.
        digest: The SHA-256 of the very bytes that are then used, in hexadecimal.
        identities: Whom to trust.
        name: How to name the bundle in errors.

    Raises:
        InvalidFormat: It is no bundle.
        ConfigError: The library is not there, or has no trust root.
    """
    try:
        from sigstore.errors import VerificationError
        from sigstore.hashes import Hashed
        from sigstore.models import Bundle
        from sigstore.verify import policy
        from sigstore_models.common.v1 import HashAlgorithm
    except ImportError:
        raise ConfigError("signatures.identities", _NEEDS) from None
    if len(bundle) > MAX_BUNDLE:
        raise InvalidFormat(name, _BUNDLE, f"it has more than {MAX_BUNDLE >> 10} KiB")
    try:
        parsed = Bundle.from_json(bundle)
    except Exception as error:  # noqa: BLE001 - another's parser on hostile bytes: whatever it raises is a refusal
        raise InvalidFormat(name, _BUNDLE, _said(error)) from None
    artifact = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(digest))
    verifier, names, why = _verifier(), [], ""
    for one in identities:
        try:
            verifier.verify_artifact(
                artifact, parsed, policy.Identity(identity=one.identity, issuer=one.issuer)
            )
        except VerificationError as error:
            why = why or _said(error)
        except Exception as error:  # noqa: BLE001 - same
            raise InvalidFormat(name, _BUNDLE, _said(error)) from None
        else:
            names.append(one.name)
    return Outcome(tuple(names), "" if names else why)


def trusted_until() -> datetime:
    """Until when Sigstore's authority, as the library knows it, can vouch for who signs.

    Raises:
        ConfigError: The library is not there, or has no trust root.
    """
    try:
        from sigstore.models import ClientTrustConfig
    except ImportError:
        raise ConfigError("signatures.identities", _NEEDS) from None
    logging.getLogger("sigstore._internal.tuf").addFilter(_is_no_news)
    try:
        known = ClientTrustConfig.production(offline=True).trusted_root.get_fulcio_certs()
        return max(certificate.not_valid_after_utc for certificate in known)
    except Exception as error:  # noqa: BLE001 - its cache may be unreadable or damaged in many ways
        raise _no_root(error) from None


def _no_root(error: Exception) -> ConfigError:
    said = f"the library sigstore has no trust root that it can read: {_said(error)}"
    return ConfigError("signatures.identities", said)


_NEEDS: Final = 'need the library sigstore: pip install "frys-runtime[sigstore]"'
_BUNDLE: Final = "a Sigstore bundle that can be verified"


def _verifier() -> "Verifier":
    from sigstore.verify import Verifier

    logging.getLogger("sigstore._internal.tuf").addFilter(_is_no_news)
    try:
        return Verifier.production(offline=True)
    except Exception as error:  # noqa: BLE001 - its cache may be unreadable or damaged in many ways
        raise _no_root(error) from None


def _is_no_news(record: logging.LogRecord) -> bool:
    """The library warns of each trust root that it reads offline, which is what was asked of it."""
    return "offline mode" not in record.getMessage()


def _said(error: Exception) -> str:
    """One line of another's words about hostile bytes."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return text if text.isprintable() else ascii(text)[1:-1]
