"""Key files: what is written can be read with its password alone, by OpenSSL too, and only by its owner."""

import os
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from frys_runtime.errors import ConfigError
from frys_runtime.signing_keys import public_bytes, read_key, write_new_key

PASSWORD = "pässword of some length".encode()


@pytest.mark.parametrize("password", [PASSWORD, b"x", bytes(range(1, 200)), None])
def test_a_key_comes_back(tmp_path, password):
    """A key written with a password, or with none, is read with the same, whatever the umask was."""
    path = tmp_path / "frys.key"
    before = os.umask(0)
    try:
        key = write_new_key(path, password)
    finally:
        os.umask(before)

    assert public_bytes(read_key(path, password)) == public_bytes(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (password is not None)
    with pytest.raises(FileExistsError):
        write_new_key(path, password)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl")
def test_openssl_opens_it(tmp_path):
    """The file is the standard's: OpenSSL opens it with the password, and sees scrypt and AES-256."""
    path = tmp_path / "frys.key"
    key = write_new_key(path, PASSWORD)
    done = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", "env:WORD", "-pubout", "-outform", "DER"],
        env={**os.environ, "WORD": PASSWORD.decode()},
        capture_output=True,
        check=True,
    )
    parsed = subprocess.run(["openssl", "asn1parse", "-in", path], capture_output=True, check=True).stdout

    assert done.stdout.endswith(public_bytes(key))
    assert b"scrypt" in parsed
    assert b":4000" in parsed  # the cost: 16384
    assert b"aes-256-cbc" in parsed


def test_keys_that_are_none(tmp_path):
    """A wrong password, another kind of key, another kind of file: one sentence each."""
    path, other = tmp_path / "frys.key", tmp_path / "other.key"
    write_new_key(path, PASSWORD)

    def refusal(file, password=None) -> str:
        with pytest.raises(ConfigError) as caught:
            read_key(file, password)
        assert PASSWORD.decode() not in str(caught.value)
        return caught.value.reason

    assert "with this password" in refusal(path, b"wrong")
    assert "no password was given" in refusal(path)
    assert "No such file" in refusal(other)
    curve = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(
        curve.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    assert "others may read it" in refusal(other)
    other.chmod(0o600)
    assert "not one for Ed25519" in refusal(other)
    for text in (b"", b"junk", path.read_bytes()[:100], b"x" * 20_000):
        other.write_bytes(text)
        assert refusal(other, b"x").startswith(("is no", "cannot be opened"))
    damaged = path.read_bytes().replace(b"M", b"N", 1)
    other.write_bytes(damaged)
    assert refusal(other, PASSWORD)
