"""What the tests of policies share."""

import pytest

from frys_runtime.policy import PolicyFile, load_policy


@pytest.fixture
def written(tmp_path):
    """Write a deployment's file and load it."""

    def load(text: str) -> PolicyFile:
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        return load_policy(path)

    return load


@pytest.fixture
def policy(written):
    """Write what a file says beyond level High, and give the policy for all."""
    return lambda text: written(f"extends: high\n{text}\n").policy()
