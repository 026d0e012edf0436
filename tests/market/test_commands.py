"""`frys publish`, `search`, `install` and the others, as a person or a script runs them."""

import json
import os
import pty
import subprocess
import sys
import time

import live_registry
import pytest
from command import FRYS, frys
from supervisors import Server, meeting_place


@pytest.fixture
def shell(live, root, tmp_path):
    """Runs `frys` with a registry, a cache and a configuration of its own."""
    environment = {
        "XDG_CACHE_HOME": str(tmp_path / "xdg-cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "xdg-config"),
        "FRYS_REGISTRY": live.url,
        "FRYS_REGISTRY_ROOT": str(root),
    }

    def run(*words, code=0, **more):
        done = frys(*words, **{**environment, **more})
        assert done.returncode == code, (done.stdout.decode(), done.stderr.decode())
        return done.stdout.decode() if code == 0 else done.stderr.decode()

    run.environment = environment
    return run


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
def test_serving_from_a_registry(live, root, publish, monkeypatch, shell):
    """`frys serve` installs what it is told to; `frys outdated` and `frys upgrade` say what runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", shell.environment["XDG_CACHE_HOME"])
    publish("served", "1.0.0")
    with meeting_place("extends: high\n") as place:
        market, bus = place / "plugins", place / "bus"
        options = ("--registry", live.url, "--root", str(root), "--dir", str(market))
        server = Server(place, "served@^1", options=options)
        try:
            server.wait_ready()
            assert shell("call", "served", "double", "21", "--bus", bus).strip() == "2121"
            publish("served", "1.1.0")
            (found,) = json.loads(shell("outdated", "--dir", market, "--bus", bus, "--json"))["outdated"]
            assert (found["version"], found["latest"], list(found["runs"])) == ("1.0.0", "1.1.0", ["1.0.0"])
            environment = {**os.environ, **shell.environment}
            words = [*FRYS, "upgrade", "--dir", str(market), "--bus", str(bus)]
            done = subprocess.run(words, capture_output=True, check=True, env=environment)
            assert done.stdout == b"served 1.0.0 > 1.1.0\n"
            assert f"served 1.0.0 runs in process {server.pid}" in done.stderr.decode()
        finally:
            assert server.stop() == 0


def test_from_a_folder_to_installed_and_back(live, shell, tmp_path):
    """A plugin is published, found, installed, listed, upgraded, verified and removed by commands."""
    plugins = tmp_path / "plugins"
    live_registry.package(tmp_path, "cmd-base")
    needs = [{"pluginId": "cmd-base", "versionRange": "^1"}]
    live_registry.package(
        tmp_path, "cmd-app", description="commands \x1b[31mof all kinds", dependencies=needs
    )
    published = shell("publish", tmp_path / "cmd-base-1.0.0", FRYS_TOKEN=live.admin)
    assert published.startswith("cmd-base 1.0.0 is published")
    assert (
        json.loads(shell("publish", tmp_path / "cmd-app-1.0.0", "--json", FRYS_TOKEN=live.admin))["id"]
        == "cmd-app"
    )
    assert "is published already" in shell(
        "publish", tmp_path / "cmd-app-1.0.0", code=7, FRYS_TOKEN=live.admin
    )
    assert "FRYS_TOKEN" in shell("publish", tmp_path / "cmd-app-1.0.0", code=2)

    shown = shell("search", "commands")
    assert "cmd-app" in shown
    assert "\x1b" not in shown
    assert json.loads(shell("search", "commands", "--json"))["plugins"][0]["id"] == "cmd-app"

    assert shell("install", "cmd-app@^1", "--dir", plugins) == "cmd-app 1.0.0 comes\ncmd-base 1.0.0 comes\n"
    listed = json.loads(shell("list", "--dir", plugins, "--json"))["plugins"]
    assert [(one["id"], one["requested"]) for one in listed] == [("cmd-app", "^1"), ("cmd-base", "")]
    assert "cmd-base" in shell("list", "--dir", plugins)
    assert shell("install", "--locked", "--dir", plugins) == "nothing to do\n"
    assert shell("install", "--offline", "--dir", plugins, "cmd-app") == "nothing to do\n"

    live_registry.package(tmp_path, "cmd-app", "1.1.0", permissions=["Write"])
    shell("publish", tmp_path / "cmd-app-1.1.0", FRYS_TOKEN=live.admin)
    (one,) = json.loads(shell("outdated", "--dir", plugins, "--json"))["outdated"]
    assert (one["plugin"], one["compatible"]) == ("cmd-app", "1.1.0")
    assert "1.1.0" in shell("outdated", "--dir", plugins)
    assert "asks for permission Write" in shell("upgrade", "--dir", plugins, code=2)
    done = json.loads(shell("upgrade", "--dir", plugins, "--yes", "--json"))
    assert [(change["id"], change["after"]) for change in done["changes"]] == [
        ("cmd-app", "1.1.0"),
        ("cmd-base", None),
    ]

    assert "1 plugins are what" in shell("verify", "--installed", plugins)
    (package,) = plugins.rglob("cmd-app-1.1.0.frys")
    package.unlink()
    assert "its package is not there" in shell("verify", "--installed", plugins, code=1)
    shell("install", "--dir", plugins)
    assert json.loads(shell("verify", "--installed", plugins, "--json"))["ok"]
    assert shell("uninstall", "cmd-app", "--dir", plugins) == "cmd-app 1.1.0 goes\n"
    assert "is not installed" in shell("uninstall", "cmd-app", "--dir", plugins, code=2)


def test_what_publishers_do_with_what_is_published(live, shell, publish):
    """A version is yanked and back, a plugin deprecated and back, an owner comes and goes, by commands."""
    for version in ("1.0.0", "1.1.0"):
        publish("cmd-kept", version)
    publish("cmd-instead")
    token = {"FRYS_TOKEN": live.admin}
    words = ["yank", "cmd-kept@1.1.0", "--reason", "loses words"]
    assert shell(*words, **token) == "cmd-kept 1.1.0 is yanked\n"
    assert shell(*words, **token) == "cmd-kept 1.1.0 is yanked, as before\n"
    with live.client() as client:
        assert client.get("/plugins/cmd-kept").json()["latest"]["version"] == "1.0.0"
    assert json.loads(shell("yank", "cmd-kept@1.1.0", "--undo", "--json", **token)) == {"changed": True}
    shell("deprecate", "cmd-kept", "--message", "no time", "--replacement", "cmd-instead", **token)
    with live.client() as client:
        told = client.get("/plugins/cmd-kept").json()["deprecated"]
    assert told == {"message": "no time", "replacement": "cmd-instead"}
    assert shell("deprecate", "cmd-kept", "--undo", **token) == "cmd-kept is kept up again\n"
    live.token("somebody", "publish:cmd-*")
    assert shell("owners", "cmd-kept") == "admin\n"
    assert shell("owners", "cmd-kept", "--add", "somebody", **token) == "somebody is an owner of cmd-kept\n"
    assert json.loads(shell("owners", "cmd-kept", "--json"))["owners"] == ["admin", "somebody"]
    shell("owners", "cmd-kept", "--remove", "somebody", **token)
    assert "ID@VERSION" in shell("yank", "cmd-kept", code=2, **token)
    assert "two changes" in shell("owners", "cmd-kept", "--add", "a", "--remove", "b", code=2, **token)
    assert "FRYS_TOKEN" in shell("yank", "cmd-kept@1.0.0", code=2)
    narrow = {"FRYS_TOKEN": live.token("somebody", "publish:cmd-*")}
    assert "yank:" in shell("yank", "cmd-kept@1.0.0", code=7, **narrow)
    assert "cmd-kept" in shell("yank", "cmd-kept@9.9.9", code=7, **token)


def test_registries_and_tokens_from_files(live, root, shell, publish, tmp_path):
    """registries.json names registries with their roots, tokens.json their tokens; others may not read it."""
    publish("cmd-file")
    config = tmp_path / "xdg-config" / "frys"
    config.mkdir(parents=True)
    (config / "root.json").write_bytes(root.read_bytes())
    (config / "registries.json").write_text(
        json.dumps({"registries": [{"url": live.url, "root": "root.json"}]})
    )
    none = {"FRYS_REGISTRY": "", "FRYS_REGISTRY_ROOT": ""}
    assert "cmd-file 1.0.0 comes" in shell("install", "cmd-file", "--dir", tmp_path / "p", **none)
    live_registry.package(tmp_path, "cmd-token")
    tokens = config / "tokens.json"
    tokens.write_text(json.dumps({"tokens": {live.url: live.admin}}))
    tokens.chmod(0o644)
    assert "chmod 600" in shell("publish", tmp_path / "cmd-token-1.0.0", code=2, **none)
    tokens.chmod(0o600)
    assert "is published" in shell("publish", tmp_path / "cmd-token-1.0.0", **none)
    (config / "registries.json").write_text('{"registry": "x"}')
    assert "registries.json" in shell("search", "x", code=2, **none)


def test_what_goes_wrong_is_a_sentence(shell, tmp_path):
    """No registry, no answer, no root, no such plugin, a wrong age: each a sentence and an exit code."""
    folder = ["--dir", tmp_path / "p"]
    none = {"FRYS_REGISTRY": "", "FRYS_REGISTRY_ROOT": ""}
    assert "no registry is named" in shell("search", "x", code=2, **none)
    assert "nobody answers there" in shell("search", "x", "--registry", "http://127.0.0.1:1", code=7)
    assert "no root of it is known here" in shell("install", "x", *folder, code=7, FRYS_REGISTRY_ROOT="")
    told = shell("install", "no-such-plugin", *folder, code=5)
    assert "there is no plugin 'no-such-plugin'" in told
    assert "hint" not in told
    assert "write a number" in shell("install", "x", *folder, "--min-age", "soon", code=2)
    assert "names no plugin" in shell("install", "@1", *folder, code=2)
    assert "a range is for one plugin" in shell("upgrade", "a@1", "b", *folder, code=2)
    assert "name a package, or a folder" in shell("verify", code=2)
    (tmp_path / "p" / "frys.lock").write_text("{")
    assert "frys.lock" in shell("list", *folder, code=2)


def test_without_the_extra_it_says_what_to_install():
    """Where httpx is missing, the error is one sentence with the command that installs it."""
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "from frys_runtime.cli import main; sys.argv = ['frys', *sys.argv[1:]]; main()"
    )
    for words in (["search", "x", "--registry", "http://127.0.0.1:1"], ["list"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert 'pip install "frys-runtime[market]"' in " ".join(done.stderr.split())


def test_on_a_terminal_it_shows_at_once_what_it_does_and_asks(live, shell, publish, tmp_path):
    """On a terminal there is something to see at once, and wider upgrades are asked about."""
    publish("cmd-wide")
    folder = str(tmp_path / "p")
    shell("install", "cmd-wide", "--dir", folder)
    publish("cmd-wide", "1.1.0", permissions=["Network"])
    shown, code = on_a_terminal(["upgrade", "--dir", folder], shell.environment, b"y\n")
    assert code == 0, shown
    assert shown.index("upgrading") < shown.index("it asks for:") < shown.index("permission Network")
    assert "cmd-wide 1.0.0 > 1.1.0" in shown
    assert json.loads(shell("list", "--dir", folder, "--json"))["plugins"][0]["version"] == "1.1.0"


def on_a_terminal(words, environment, typed):
    """What a person sees, and the exit code; what is typed is sent when it is asked for."""
    terminal, side = pty.openpty()
    variables = {**os.environ, **environment, "TERM": "xterm", "COLUMNS": "100"}
    child = subprocess.Popen([*FRYS, *words], stdin=side, stdout=side, stderr=side, env=variables)
    os.close(side)
    shown, asked, until = b"", False, time.monotonic() + 60
    while time.monotonic() < until:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # its end has gone: EIO
            break
        if not piece:
            break
        shown += piece
        if b"Approve this?" in shown and not asked:
            asked = True
            os.write(terminal, typed)
    os.close(terminal)
    return shown.decode(), child.wait(30)
