"""Private keys of those who sign packages: made, kept encrypted with a password, and opened."""

import base64
import hashlib
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from .errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_KEY_FILE: Final = 16 << 10

# scrypt (RFC 7914) with 16 MiB, five times: OpenSSL, which may want to read the file, too, allows 32 MiB.
_COST: Final = 1 << 14
_BLOCK: Final = 8
_PARALLEL: Final = 5
_ENCRYPTED: Final = "ENCRYPTED PRIVATE KEY"

# Object identifiers of RFC 8018 (PBES2), RFC 7914 (scrypt) and NIST (AES-256 in CBC mode), as DER.
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_AES: Final = bytes.fromhex("060960864801650304012a")
_SEQUENCE: Final = 0x30
_OCTETS: Final = 0x04
_INTEGER: Final = 0x02


def key_id(public: bytes) -> str:
    """The SHA-256 of a raw public key, in hexadecimal: the ``keyid`` in our envelopes."""
    return hashlib.sha256(public).hexdigest()


def public_bytes(key: "Ed25519PrivateKey") -> bytes:
    """The raw public key of a private one, 32 bytes: what a policy has in base64."""
    return key.public_key().public_bytes_raw()


def write_new_key(path: str | os.PathLike[str], password: bytes | None) -> "Ed25519PrivateKey":
    """Make a key and write it to a new file that only its owner may read: PKCS#8, PEM, encrypted.

    Args:
        path: Must not exist.
        password: ``None`` leaves the key unencrypted, for machines that keep files secret themselves.

    Raises:
        OSError: It cannot be written; nothing is left then.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    info = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    text = _pem("PRIVATE KEY", info) if password is None else _pem(_ENCRYPTED, _encrypted(info, password))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
    except BaseException:
        os.unlink(path)
        raise
    return key


def _encrypted(info: bytes, password: bytes) -> bytes:
    """PKCS#8's EncryptedPrivateKeyInfo: RFC 5958 section 3, PBES2 with scrypt by RFC 7914 section 7.

    cryptography writes PBKDF2 with 2048 rounds here, which is little against who tries passwords.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    secret = hashlib.scrypt(password, salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=1 << 26, dklen=32)
    padding = 16 - len(info) % 16
    cipher = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    data = cipher.update(info + bytes([padding]) * padding) + cipher.finalize()
    numbers = b"".join(_der(_INTEGER, _number(value)) for value in (_COST, _BLOCK, _PARALLEL))
    derivation = _der(_SEQUENCE, _SCRYPT + _der(_SEQUENCE, _der(_OCTETS, salt) + numbers))
    scheme = _der(_SEQUENCE, _AES + _der(_OCTETS, iv))
    algorithm = _der(_SEQUENCE, _PBES2 + _der(_SEQUENCE, derivation + scheme))
    return _der(_SEQUENCE, algorithm + _der(_OCTETS, data))


def _der(tag: int, content: bytes) -> bytes:
    """One value of X.690; none here is longer than 255 bytes."""
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


def _number(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1)


def _pem(label: str, data: bytes) -> bytes:
    """RFC 7468."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def read_key(path: str | os.PathLike[str], password: bytes | None) -> "Ed25519PrivateKey":
    """Read a private key.

    Args:
        path: A file as :func:`write_new_key` writes it.
        password: That of the file; ``None`` for a file without one.

    Raises:
        ConfigError: It cannot be read, is no such key, or others may read it and it has no password.
    """
    where = f"key {os.fspath(path)}"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise ConfigError(where, f"cannot be read: {error.strerror}") from None
    if not needs_password(text) and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(where, "has no password, and others may read it; chmod 600 keeps it to its owner")
    return open_key(text, password, where)


def open_key(text: bytes, password: bytes | None, where: str) -> "Ed25519PrivateKey":
    """Read a private key that is in memory.

    Args:
        text: What is in the file of a key.
        password: Its password; ``None`` for one without.
        where: How to name it in errors.

    Raises:
        ConfigError: It is no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if len(text) > _MAX_KEY_FILE:
        raise ConfigError(where, f"is no key: it has more than {_MAX_KEY_FILE >> 10} KiB")
    if needs_password(text) and password is None:
        raise ConfigError(where, "is encrypted, and no password was given")
    try:
        key = load_pem_private_key(text, password if needs_password(text) else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "cannot be opened with this password" if needs_password(text) else "is no private key in PEM"
        raise ConfigError(where, reason) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(where, "is a private key, but not one for Ed25519")
    return key


def needs_password(text: bytes) -> bool:
    """Whether the text of a private key's file is encrypted (RFC 7468, section 11)."""
    return f"-----BEGIN {_ENCRYPTED}-----".encode() in text
