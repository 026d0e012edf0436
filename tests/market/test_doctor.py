"""`frys doctor` on signatures and registries: whom a policy trusts, and whether that is in date."""

import asyncio
import datetime
import json
from importlib import metadata

import pytest
from command import frys

from frys_runtime import PluginRegistry
from frys_runtime.cli import trust
from frys_runtime.policy import load_policy

KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
POLICY = f"""
extends: high
signatures: {{required: true, keys: {{release: "{KEY}"}}}}
plugins:
  acme-*:
    signatures:
      identities:
        nightly: {{identity: me@example.com, issuer: "https://issuer.example.com", ids: ["acme-*"]}}
      threshold: 2
  own-*:
    signatures: {{required: false}}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes registries.json, in a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("FRYS_REGISTRY", "FRYS_REGISTRY_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config" / "frys"
    folder.mkdir(parents=True)

    def write(*registries):
        (folder / "registries.json").write_text(json.dumps({"registries": registries}))

    return write


def told(policy=None, name="regist"):
    """What the doctor finds about something."""
    return [fact for fact in trust.facts(policy) if fact.name.startswith(name)]


@pytest.fixture
def policy(tmp_path):
    """A policy that trusts a key and an identity."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_a_policy_says_whose_signatures_count(config, policy):
    """The rule for all and for each pattern that has another, and each key and identity once."""
    found = {fact.name: fact.found for fact in trust.facts(load_policy(policy))}
    assert found["signatures"] == f"1 of release required by {policy}"
    assert found["signatures: acme-*"] == "2 of release, nightly required"
    assert found["signatures: own-*"] == "not required"
    assert found["trusted: release"] == KEY
    assert found["trusted: nightly"] == "me@example.com by https://issuer.example.com for acme-*"
    assert told(name="signatures")[0].found.startswith("not required at level maximum")


def test_sigstore_is_missed_where_it_is_needed(config, policy, monkeypatch):
    """Its trust root has a date; beyond that, or without the library, who needs it is told."""
    (there,) = told(name="Sigstore")
    assert there.ok
    assert "good until 2" in there.found
    with monkeypatch.context() as later:
        later.setattr(trust, "datetime", Later)
        (old,) = told(name="Sigstore")
    assert not old.ok

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert told(name="Sigstore")[0].ok
    (needed,) = told(load_policy(policy), "Sigstore")
    assert "frys-runtime[sigstore]" in needed.how


class Later(datetime.datetime):
    """A clock a hundred years ahead."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(days=36500)


class Soon(datetime.datetime):
    """A clock some days before a year is over."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(days=360)


def test_registries_have_a_root_in_date(config, live, root, tmp_path, monkeypatch):
    """Unknown, named, fetched, soon to be renewed, expired: each is said of a registry that is configured."""
    assert [fact.found for fact in told()] == ["none is configured"]
    config({"url": f"{live.url}/"})
    (unknown,) = told()
    assert (unknown.found, unknown.why) == (live.url, "no root of it is known")
    config({"url": "https://plugins.example.com", "root": "none.json"}, {"url": live.url, "root": str(root)})
    wrong, named = told()
    assert named.found.endswith("its root is named, and nothing was fetched yet")
    assert named.ok
    assert "cannot be read" in wrong.why

    asyncio.run(PluginRegistry(live.url, root=root).versions("any"))
    (_, known) = told()
    assert known.ok
    assert f"{live.url}; root 1 (pinned) expires 20" in known.found
    monkeypatch.setattr(trust, "datetime", Soon)
    (_, soon) = told()
    assert soon.ok
    assert "frys registry root renew" in soon.found
    monkeypatch.setattr(trust, "datetime", Later)
    (_, expired) = told()
    assert "its root has expired" in expired.why

    (tmp_path / "config" / "frys" / "registries.json").write_text("{")
    (broken,) = told()
    assert "registries.json" in broken.why


def test_the_command_tells_it(config, live, policy):
    """`frys doctor` shows it in a table and as JSON; its exit code is about the jail alone."""
    config({"url": live.url})
    done = frys("doctor", "--policy", policy, "--json")
    found = {fact["name"]: fact for fact in json.loads(done.stdout)["trust"]}
    assert found["trusted: release"]["found"] == KEY
    assert found["registry"]["why"] == "no root of it is known"
    assert done.returncode == (0 if json.loads(done.stdout)["ok"] else 1)
    shown = frys("doctor", "--policy", policy).stdout.decode()
    assert "whom you trust" in shown
    assert KEY in shown.replace("\n", "")
    assert max(map(len, shown.splitlines())) <= 80
    assert frys("doctor", "--policy", "nowhere.yaml").returncode == 2
