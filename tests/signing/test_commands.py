"""`frys keygen`, `frys sign`, `frys verify`, and what a policy then loads."""

import asyncio
import hashlib
import json
import os
import pty
import stat
import subprocess

import packages
import pytest
from command import FRYS, frys
from support import live

from frys_runtime import InvalidFormat, IsolationLevel, LoadFailed, PluginManager
from frys_runtime.packing import write_package

SECRET = {"FRYS_KEY_PASSWORD": "secret words"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Three keys that `frys keygen` made: two with a password, one without."""
    folder = tmp_path_factory.mktemp("keys")
    for name, more in (("one", []), ("two", ["--no-password"]), ("three", [])):
        done = frys("keygen", "-o", folder / f"{name}.key", *more, **SECRET)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def package(tmp_path):
    """A package that nobody has signed."""
    return make_package(tmp_path / "plugins", "mine")


def make_package(folder, plugin_id: str, version: str = "1.2.3"):
    source = folder / f"{plugin_id}-{version}-source"
    source.mkdir(parents=True)
    (source / "main.py").write_text("def double(x):\n    return x + x\n")
    about = {"id": plugin_id, "version": version, "format": "python", "entry": "main.py"}
    (source / "plugin.json").write_text(json.dumps(about))
    return folder / os.path.basename(write_package(source, folder / f"{plugin_id}-{version}.frys"))


def sign(package, keys, *names):
    for name in names:
        done = frys("sign", package, "--key", keys / f"{name}.key", **SECRET)
        assert done.returncode == 0, done.stderr.decode()


def verify(package, *words, code=0):
    done = frys("verify", package, *words)
    assert done.returncode == code, done.stderr.decode()
    return (done.stdout + done.stderr).decode()


def policy_file(folder, keys, text="required: true, threshold: 2", ids='["mi*", other]'):
    public = {name: (keys / f"{name}.key.pub").read_text().strip() for name in ("one", "two")}
    path = folder / "policy.yaml"
    path.write_text(
        f"extends: maximum\nsignatures: {{{text}, keys: {{one: {{key: {public['one']}, ids: {ids}}},"
        f" two: {public['two']}}}}}\n"
    )
    return path


def test_keygen(tmp_path):
    """A key is made once, encrypted, for its owner; its public half is what a policy takes."""
    done = frys("keygen", "-o", tmp_path / "k.key", "--json", **SECRET)

    facts = json.loads(done.stdout)
    assert facts["encrypted"]
    assert (tmp_path / "k.key.pub").read_text() == f"{facts['public']}\n"
    assert stat.S_IMODE((tmp_path / "k.key").stat().st_mode) == 0o600
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"extends: high\nsignatures: {{required: true, keys: {{k: {facts['public']}}}}}\n")
    assert frys("policy", "check", policy).returncode == 0
    again = frys("keygen", "-o", tmp_path / "k.key", **SECRET)
    assert (again.returncode, b"no key is ever overwritten" in again.stderr) == (2, True)


def test_passwords(tmp_path, package, keys):
    """A password comes from a file or the environment; where nobody can be asked the sentence says how."""
    (tmp_path / "words").write_bytes(b"secret words\r\nmore\n")
    key = keys / "one.key"

    assert frys("sign", package, "-k", key, "--password-file", tmp_path / "words").returncode == 0
    for words, said in (
        (["sign", package, "-k", key], b"--password-file or FRYS_KEY_PASSWORD"),
        (["keygen", "-o", tmp_path / "k.key"], b"--password-file or FRYS_KEY_PASSWORD"),
        (["sign", package, "-k", key, "--password-file", tmp_path / "none"], b"cannot be read"),
        (["sign", package, "-k", tmp_path / "none"], b"cannot be read"),
    ):
        done = frys(*words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    for environment, said in (
        ({"FRYS_KEY_PASSWORD": ""}, b"is empty"),
        ({"FRYS_KEY_PASSWORD": "x"}, b"password"),
    ):
        done = frys("sign", package, "-k", key, **environment)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "k.key").exists()


def test_a_password_is_asked_for_twice(tmp_path):
    """On a terminal a new password is typed twice, unseen; two different ones make no key."""

    def keygen(*typed: str) -> tuple[int, bytes]:
        ours, theirs = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FRYS_")}
        process = subprocess.Popen(
            [*FRYS, "keygen", "-o", str(tmp_path / "k.key")],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        shown = b""
        try:
            for word, prompt in zip(typed, (b"Password", b"again"), strict=True):
                while prompt not in shown:
                    shown += os.read(ours, 1000)
                os.write(ours, f"{word}\n".encode())
            process.communicate()
            while True:
                try:
                    shown += os.read(ours, 1000)
                except OSError:  # the other end has gone
                    return process.returncode, shown
        finally:
            os.close(ours)

    code, shown = keygen("some words", "other words")
    assert (code, b"differ" in shown, b"words" in shown.replace(b"passwords", b"")) == (2, True, False)
    assert not (tmp_path / "k.key").exists()
    assert keygen("some words", "some words")[0] == 0
    assert (tmp_path / "k.key").exists()


def test_sign_and_verify(package, keys):
    """Who has signed is told by the names that the person gave; too few are exit code 1 and a sentence."""
    one, two, three = (keys / f"{name}.key.pub" for name in ("one", "two", "three"))
    base64_one = one.read_text().strip()

    assert "there is no file mine-1.2.3.frys.sig beside it" in verify(package, "-k", one, code=1)
    sign(package, keys, "one", "two", "one")
    assert len(json.loads(package.with_name("mine-1.2.3.frys.sig").read_text())["signatures"]) == 2
    assert f"signed by {one}, {two}" in verify(package, "-k", one, "-k", two, "-k", three, "-n", "2")
    assert "signed by" in verify(package, "-k", base64_one)
    facts = json.loads(frys("verify", package, "-k", one, "--json").stdout)
    assert (facts["ok"], facts["id"], facts["version"]) == (True, "mine", "1.2.3")
    assert "needs signatures of 3 of the keys" in verify(
        package, "-k", one, "-k", two, "-k", three, "-n", "3", code=1
    )
    assert "it has 0" in verify(package, "-k", three, code=1)
    assert "the same key" in verify(package, "-k", one, "-k", base64_one, "-n", "2", code=2)
    assert "only 1 keys" in verify(package, "-k", one, "-n", "2", code=2)
    assert "--key, or a policy" in verify(package, code=2)
    assert "no public key" in verify(package, "-k", keys / "one.key", code=2)
    assert "no file" in verify(package, "-k", "nothing", code=2)
    done = frys("sign", keys / "one.key", "--key", keys / "two.key")
    assert (done.returncode, b"is not a Frys package" in done.stderr) == (5, True)


def test_a_key_from_the_environment(package, keys):
    """Where there is no file for a key, its text in a variable signs as the file does."""
    text = (keys / "one.key").read_text()
    done = frys("sign", package, FRYS_SIGNING_KEY=text, **SECRET)
    assert done.returncode == 0, done.stderr.decode()
    assert "signed by" in verify(package, "-k", keys / "one.key.pub")
    made = frys("keygen", "-o", keys / "bare.key", "--no-password")
    assert made.returncode == 0
    bare = (keys / "bare.key").read_text()
    assert frys("sign", package, FRYS_SIGNING_KEY=bare).returncode == 0
    assert "signed by" in verify(package, "-k", keys / "one.key.pub", "-k", keys / "bare.key.pub", "-n", "2")
    for value, story in (("", b"name a key with --key"), ("no key", b"FRYS_SIGNING_KEY: is no private key")):
        refused = frys("sign", package, FRYS_SIGNING_KEY=value)
        assert (refused.returncode, story in refused.stderr) == (2, True)
        assert value.encode() == b"" or value.encode() not in refused.stderr.replace(story, b"")


def test_signatures_of_another_package_are_not_added_to(package, keys, tmp_path):
    """What lies beside a package and is about another one is neither believed nor overwritten."""
    other = make_package(tmp_path / "plugins", "mine", "1.2.4")
    sign(other, keys, "one")
    beside, wrong = (
        package.with_name("mine-1.2.3.frys.sig"),
        other.with_name("mine-1.2.4.frys.sig").read_bytes(),
    )
    beside.write_bytes(wrong)

    done = frys("sign", package, "--key", keys / "two.key")

    assert (done.returncode, b"another file" in done.stderr) == (5, True)
    assert beside.read_bytes() == wrong
    assert "another file" in verify(package, "-k", keys / "one.key.pub", code=1)


def test_explain_says_who_signed(package, keys, tmp_path):
    """Policy explain and verify --policy come to the outcome of the load, without loading it."""
    policy = policy_file(tmp_path, keys)

    done = frys("policy", "explain", package, "--policy", policy, "--no-load")
    assert (done.returncode, b"it has 0: there is no file" in done.stderr) == (5, True)
    sign(package, keys, "one", "two")
    shown = frys("policy", "explain", package, "--policy", policy, "--no-load").stdout.decode()
    assert "2 of one (for mi*, other), two" in shown
    assert "signed by one, two" in shown
    assert "signed by one, two" in verify(package, "--policy", policy)
    limited = policy_file(tmp_path, keys, ids="[other]")
    assert "lets no other sign mine" in verify(package, "--policy", limited, code=1)
    unasked = policy_file(tmp_path, keys, text="required: false")
    assert "none required" in verify(package, "--policy", unasked)
    facts = json.loads(frys("policy", "show", "--policy", policy, "--json").stdout)["settings"]
    shown = next(one["value"] for one in facts if one["key"] == "signatures.keys")
    assert shown["one"].endswith("= for mi*, other")


async def _loaded(manager, path) -> str:
    try:
        await manager.load_plugin(path)
    except (LoadFailed, InvalidFormat) as error:
        return str(error)
    return ""


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@live
async def test_only_what_is_signed_runs(package, keys, tmp_path):
    """At level Maximum with two signatures required the signed package runs, and nothing that is near it."""
    log, policy = tmp_path / "audit.log", policy_file(tmp_path, keys)
    beside = package.with_name("mine-1.2.3.frys.sig")
    async with PluginManager(policy=policy, audit=log) as manager:
        assert "there is no file" in await _loaded(manager, package)
        await asyncio.to_thread(sign, package, keys, "one")
        assert "it has 1 (one)" in await _loaded(manager, package)
        await asyncio.to_thread(sign, package, keys, "three")
        assert "it has 1 (one)" in await _loaded(manager, package)
        await asyncio.to_thread(sign, package, keys, "two")

        data, envelope = package.read_bytes(), beside.read_bytes()
        for at in range(0, len(data), 7):
            package.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
            assert await _loaded(manager, package)
        # The same plugin with a file more: a package as it should be, but not the one that was signed.
        changed = packages.archive(
            {
                "main.py": b"def double(x): return 0\n",
                "plugin.json": (package.parent / "mine-1.2.3-source" / "plugin.json").read_bytes(),
            }
        )
        package.write_bytes(changed)
        assert "another file" in await _loaded(manager, package)
        package.write_bytes(data)
        for odd in (b"", b"{}", envelope[: len(envelope) // 2], b"[" * 50_000):
            beside.write_bytes(odd)
            assert "is not a signature of mine-1.2.3.frys" in await _loaded(manager, package)
        beside.unlink()
        beside.mkdir()
        assert "neither a file nor a folder" in await _loaded(manager, package)
        beside.rmdir()
        source = package.parent / "mine-1.2.3-source"
        assert "only packages carry signatures" in await _loaded(manager, source)
        assert "only packages carry signatures" in await _loaded(manager, source / "main.py")
        assert manager.list_plugins() == []

        beside.write_bytes(envelope)
        plugin_id = await manager.load_plugin(package)
        assert await manager.execute_plugin(plugin_id, "double", "ab") == "abab"
        assert manager.list_plugins()[0].isolation is IsolationLevel.MAXIMUM
    (granted,) = [json.loads(line) for line in log.read_text().splitlines() if '"granted"' in line]
    assert granted["data"]["signatures"] == "signed by one, two"
    assert granted["data"]["package"] == hashlib.sha256(data).hexdigest()
