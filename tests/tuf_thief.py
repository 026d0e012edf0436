"""Somebody who has stolen keys of a registry, and signs with them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from live_registry import Live

from frys_runtime.registry_server.keys import envelope, load_key


class Thief:
    """Has copies of the online keys, as they were, and reads what everybody can read."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.online = _keys(live.folder / "keys")

    def read(self, path: str) -> dict[str, Any]:
        """The signed part of a metadata file."""
        with self._live.client() as client:
            answer = client.get(f"{self._live.url}/tuf/metadata/{path}")
        assert answer.status_code == 200, answer.text
        signed: dict[str, Any] = answer.json()["signed"]
        return signed

    def newest(self, role: str) -> dict[str, Any]:
        """The newest file of a role that the newest snapshot knows."""
        timestamp = self.read("timestamp.json")
        if role == "timestamp":
            return timestamp
        snapshot = self.read(f"{timestamp['meta']['snapshot.json']['version']}.snapshot.json")
        if role == "snapshot":
            return snapshot
        return self.read(f"{snapshot['meta'][f'{role}.json']['version']}.{role}.json")

    def key_of(self, role: str) -> tuple[str, Ed25519PrivateKey]:
        """The stolen key of an online role."""
        if role in ("timestamp", "snapshot"):
            (key_id,) = self.read("1.root.json")["roles"][role]["keyids"]
        else:
            (key_id,) = self.newest("targets")["delegations"]["roles"][0]["keyids"]
        return key_id, self.online[key_id]

    def forged(self, role: str, change: Callable[[dict[str, Any]], object], *, by: str = "") -> bytes:
        """The newest file of a role, changed and signed with its stolen key, or with that of another role."""
        document = self.newest(role)
        change(document)
        return envelope(document, [self.key_of(by or role)])

    def timestamp_of(self, snapshot: bytes, *, ahead: int = 1, by: str = "") -> bytes:
        """A timestamp that vouches for a snapshot, so many versions further than the newest."""
        version = json.loads(snapshot)["signed"]["version"]
        facts = {
            "version": version,
            "length": len(snapshot),
            "hashes": {"sha256": hashlib.sha256(snapshot).hexdigest()},
        }

        def vouch(document: dict[str, Any]) -> None:
            document["version"] += ahead
            document["meta"]["snapshot.json"] = facts

        return self.forged("timestamp", vouch, by=by)


def _keys(folder: Path) -> dict[str, Ed25519PrivateKey]:
    return {path.stem: load_key(path) for path in folder.glob("*.pem")}
