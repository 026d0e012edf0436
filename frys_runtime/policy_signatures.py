"""Whose signatures a policy wants: keys and identities by name, and for which plugins they count."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from .policy_file import COUNT, Node
from .policy_grants import PLUGIN_PATTERN, one_matches

KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""How a policy may call a key."""
_KEY_BYTES: Final = 32


class TrustedKey(msgspec.Struct, frozen=True):
    """A key that may sign plugins.

    Attributes:
        name: How the policy calls it.
        key: The Ed25519 public key (RFC 8032), 32 bytes, in base64.
        ids: Which plugins it may sign: ids and patterns with ``*`` and ``?``, all by default.
    """

    name: str
    key: bytes
    ids: tuple[str, ...] = ("*",)

    def may_sign(self, plugin_id: str) -> bool:
        """Whether its signatures count for a plugin."""
        return one_matches(self.ids, plugin_id)

    def __str__(self) -> str:
        text = base64.b64encode(self.key).decode()
        return text if self.ids == ("*",) else f"{text} for {', '.join(self.ids)}"


class Identity(msgspec.Struct, frozen=True):
    """A person or a build job that may sign plugins by Sigstore.

    Attributes:
        name: How the policy calls it.
        identity: The subject of its certificate, such as an e-mail address or a workflow's URL.
        issuer: Who has told Sigstore so, such as https://token.actions.githubusercontent.com.
        ids: Which plugins it may sign: ids and patterns with ``*`` and ``?``, all by default.
    """

    name: str
    identity: str
    issuer: str
    ids: tuple[str, ...] = ("*",)

    def may_sign(self, plugin_id: str) -> bool:
        """Whether its signatures count for a plugin."""
        return one_matches(self.ids, plugin_id)

    def __str__(self) -> str:
        text = f"{self.identity} by {self.issuer}"
        return text if self.ids == ("*",) else f"{text} for {', '.join(self.ids)}"


class Signatures(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures a plugin must carry.

    Attributes:
        required: Whether it loads only with them.
        keys: Ed25519 public keys in base64 by the name that the policy gives them; with ids, only for those.
        identities: Whom Sigstore has told apart, by name.
        threshold: How many of the keys and identities must have signed.
    """

    required: bool = False
    keys: tuple[TrustedKey, ...] = ()
    identities: tuple[Identity, ...] = ()
    threshold: int = 1

    @property
    def signers(self) -> "tuple[TrustedKey | Identity, ...]":
        """All whose signatures count, for some plugins at least."""
        return (*self.keys, *self.identities)

    def for_plugin(self, plugin_id: str) -> "Signatures":
        """With those alone whose signatures count for a plugin."""
        keys = tuple(key for key in self.keys if key.may_sign(plugin_id))
        identities = tuple(one for one in self.identities if one.may_sign(plugin_id))
        return msgspec.structs.replace(self, keys=keys, identities=identities)


def read_signatures(required: Node, keys: Node, identities: Node, threshold: Node) -> Signatures:
    """Whose signatures are wanted.

    Raises:
        ConfigError: A value is wrong, or more signatures are wanted than there are keys and identities.
    """
    found = Signatures(
        required=required.flag(),
        keys=read_keys(keys),
        identities=read_identities(identities),
        threshold=threshold.amount(COUNT, 1),
    )
    names = [one.name for one in found.signers]
    if found.required and not names:
        required.fail("cannot be true without keys that may have signed: add them under signatures.keys")
    if names and found.threshold > len(names):
        what = "keys and identities" if found.identities else "keys"
        threshold.fail(f"is {found.threshold}, but there are only {len(names)} {what}")
    if twice := {one.name for one in found.keys} & {one.name for one in found.identities}:
        identities.fail(f"have the name {min(twice)}, which a key has, too")
    return found


def read_keys(node: Node) -> tuple[TrustedKey, ...]:
    """Public keys by name, each alone or with the plugins that it may sign.

    Raises:
        ConfigError: One is no Ed25519 key, or stands there under two names, of which each would count.
    """
    found: dict[bytes, TrustedKey] = {}
    for name, key_node in node.mapping().items():
        if not KEY_ID.fullmatch(name):
            key_node.fail("is no name of a key: letters, digits, dots, dashes and underscores")
        key = _trusted_key(name, key_node)
        if key.key in found:
            key_node.fail(f"is the same key as {found[key.key].name}; it would count twice")
        found[key.key] = key
    return tuple(found.values())


def _trusted_key(name: str, node: Node) -> TrustedKey:
    if not isinstance(node.value, dict):
        return TrustedKey(name, _key(node))
    parts = node.mapping(("key", "ids"))
    if "key" not in parts:
        node.fail("has no key: a raw Ed25519 public key in base64")
    return TrustedKey(name, _key(parts["key"]), _ids(parts))


def read_identities(node: Node) -> tuple[Identity, ...]:
    """Identities of Sigstore by name.

    Raises:
        ConfigError: One is incomplete, or stands there under two names, of which each would count.
    """
    found: dict[tuple[str, str], Identity] = {}
    for name, one in node.mapping().items():
        if not KEY_ID.fullmatch(name):
            one.fail("is no name of an identity: letters, digits, dots, dashes and underscores")
        parts = one.mapping(("identity", "issuer", "ids"))
        for key in ("identity", "issuer"):
            if key not in parts:
                one.fail(f"has no {key}")
        who = parts["identity"].text(), parts["issuer"].text()
        if who in found:
            one.fail(f"is the same identity as {found[who].name}; it would count twice")
        found[who] = Identity(name, *who, _ids(parts))
    return tuple(found.values())


def _ids(parts: Mapping[str, Node]) -> tuple[str, ...]:
    return parts["ids"].each_once(parts["ids"].texts(), _plugin_pattern) if "ids" in parts else ("*",)


def _plugin_pattern(node: Node) -> str:
    if not PLUGIN_PATTERN.fullmatch(node.value):
        node.fail(f"{node.value!r} is no id of a plugin, and no pattern of one with * and ?")
    return str(node.value)


def _key(node: Node) -> bytes:
    try:
        return read_public_key(node.text())
    except ValueError as error:
        node.fail(str(error))


def read_public_key(text: str) -> bytes:
    """A raw Ed25519 public key in base64, as policies and ``frys keygen`` write it.

    Raises:
        ValueError: It is none.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be a raw Ed25519 public key in base64") from None
    if len(key) != _KEY_BYTES:
        rule = f"a raw Ed25519 public key has {_KEY_BYTES}, which are 44 letters in base64"
        raise ValueError(f"has {len(key)} bytes; {rule}")
    return key
