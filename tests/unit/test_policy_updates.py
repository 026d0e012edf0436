"""What a policy says about new versions from registries: read strictly, shown, and remarked on."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from frys_runtime.cli.policy import said
from frys_runtime.errors import ConfigError
from frys_runtime.policy import load_policy, settings
from frys_runtime.policy_check import lint
from frys_runtime.policy_schema import schema

KEYS = ("auto_update", "auto_update_interval", "auto_update_min_age", "auto_update_canary")


def write(folder: Path, *lines: str) -> Path:
    """A policy file."""
    path = folder / "policy.yaml"
    path.write_text("\n".join(["extends: high", *lines]))
    return path


def test_each_plugin_has_its_own_rule(tmp_path: Path) -> None:
    """Sections change single keys; by default nothing comes by itself; the words are those of the file."""
    path = write(
        tmp_path,
        "auto_update_interval: 10min",
        "plugins: {acme-*: {auto_update: minor, auto_update_min_age: 0, auto_update_canary: 5%}}",
    )
    policies = load_policy(path)
    shown = {name: settings(policies.policy(name)) for name in ("acme-words", "other")}
    words = {name: [said(key, facts[key]) for key in KEYS] for name, facts in shown.items()}
    assert words["acme-words"] == ["minor", "10min", "0", "5%"]
    assert words["other"] == ["none", "10min", "24h", "none"]
    assert policies.origins("acme-words")["auto_update"].endswith("line 3")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("auto_update: major", "auto_update"),
        ("auto_update_interval: 10ms", "auto_update_interval"),
        ("auto_update_min_age: 3", "auto_update_min_age"),
        ("auto_update_canary: 0%", "auto_update_canary"),
        ("auto_update_canary: 0.1", "auto_update_canary"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, line: str, key: str) -> None:
    """The reader refuses it with its place, and what the schema can know, the schema refuses, too."""
    with pytest.raises(ConfigError, match=f"line 2, column 1: {key}: "):
        load_policy(write(tmp_path, line))
    name, _, value = line.partition(": ")
    document = {"extends": "high", name: float(value) if value in ("3", "0.1") else value}
    if value != "10ms":
        assert not Draft202012Validator(schema()).is_valid(document)


def test_what_is_too_wide_is_told(tmp_path: Path) -> None:
    """Code that nobody signs and nobody can have looked at is remarked on, and so is a trial of nothing."""
    found = lint(load_policy(write(tmp_path, "auto_update: any", "auto_update_min_age: 0")))
    assert [one.key for one in found] == ["auto_update", "auto_update_min_age"]
    assert [one.key for one in lint(load_policy(write(tmp_path, "auto_update_canary: 5%")))] == [
        "auto_update_canary"
    ]
