"""Ed25519 keys of a registry's TUF roles, and metadata signed with them.

Online keys lie in ``keys/`` of the registry's folder, each under its id; offline keys wherever an
administrator keeps them. A key's id is the SHA-256 of its public part in canonical JSON, as the TUF
specification has it (https://theupdateframework.github.io/specification/v1.0.31/, section 4.2).
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..errors import ConfigError

FOLDER: Final = "keys"
_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")

type Document = dict[str, Any]


def canonical(value: object) -> bytes:
    """Canonical JSON, the bytes that TUF signs (http://wiki.laptop.org/go/Canonical_JSON).

    Raises:
        ValueError: A text holds a control character, which canonical JSON does not escape and msgspec does.
    """
    encoded = msgspec.json.encode(value, order="sorted")
    if any(escape[1] not in b'\\"' for escape in re.findall(rb"\\.", encoded)):
        raise ValueError("a text of the metadata holds a control character")
    return encoded


def public_part(key: Ed25519PrivateKey) -> tuple[str, Document]:
    """The id and the public part of a key, as metadata lists it."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    part = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw.hex()}}
    return hashlib.sha256(canonical(part)).hexdigest(), part


def new_key(folder: Path, password: bytes | None = None) -> tuple[str, Document]:
    """Make a key and write its private part to ``folder/ID.pem``, which only its owner can read.

    Args:
        folder: Made if it is not there.
        password: Encrypts the file.

    Returns:
        Its id and its public part.
    """
    key = Ed25519PrivateKey.generate()
    key_id, part = public_part(key)
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / f"{key_id}.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(fd)
    return key_id, part


def load_key(path: Path, password: bytes | None = None) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        ConfigError: It cannot be read, is no Ed25519 key, or the password is wrong or missing.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except TypeError:
        raise ConfigError(
            str(path),
            "has a password, and none was given; or none, and one was given (--password-file, "
            "FRYS_ROOT_PASSWORD)",
        ) from None
    except ValueError:
        raise ConfigError(str(path), "is no private key in PEM, or the password is wrong") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(str(path), "is no Ed25519 key")
    return key


class Keyring:
    """The online keys of a registry; each is read when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._keys: dict[str, Ed25519PrivateKey] = {}

    def new(self) -> tuple[str, Document]:
        """Make a key; its id and its public part."""
        return new_key(self._folder)

    def has(self, key_id: str) -> bool:
        """Whether the private part is here."""
        return _KEY_ID.fullmatch(key_id) is not None and (self._folder / f"{key_id}.pem").exists()

    def keep_only(self, used: set[str]) -> None:
        """Delete the private parts that no role uses any more."""
        for path in self._folder.glob("*.pem"):
            if path.stem not in used:
                self._keys.pop(path.stem, None)
                path.unlink()

    def signed(self, document: Document, key_id: str) -> bytes:
        """The metadata file of a document.

        Raises:
            ConfigError: The key is not here.
        """
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = load_key(self._folder / f"{key_id}.pem")
        return envelope(document, [(key_id, key)])


def envelope(document: Document, keys: list[tuple[str, Ed25519PrivateKey]]) -> bytes:
    """The metadata file of a document that several keys sign."""
    payload = canonical(document)
    signatures = [{"keyid": key_id, "sig": key.sign(payload).hex()} for key_id, key in keys]
    return b'{"signatures":%b,"signed":%b}' % (msgspec.json.encode(signatures), payload)
