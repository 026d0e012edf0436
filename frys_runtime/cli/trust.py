"""What the doctor says of signatures and registries: who is trusted, and whether that is in date."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Final

from ..config import IsolationLevel
from ..errors import PluginError
from ..policy import PolicyFile, level_policy
from ..policy_signatures import Signatures
from .exits import UsageError
from .machine import Fact
from .registries import Configured, choose_registries

_MANUAL: Final = "docs/marketplace.md says how registries and roots are named"
_SOON: Final = timedelta(days=30)


def facts(policy: PolicyFile | None) -> list[Fact]:
    """Everything that decides whether plugins of others are believed.

    Args:
        policy: The policy that is asked about; without one, that of level maximum is.
    """
    found = list(_signatures(policy))
    named = policy is not None and any(
        policy.policy_of(section).signatures.identities for section in ("", *policy.sections)
    )
    return [*found, _sigstore(needed=named), *_registries()]


def _signatures(policy: PolicyFile | None) -> Iterator[Fact]:
    if policy is None:
        asks = level_policy(IsolationLevel.MAXIMUM).signatures
        yield Fact("signatures", f"{_rule(asks)} at level maximum; --policy FILE shows what a policy says")
        return
    sections = {section: policy.policy_of(section).signatures for section in ("", *policy.sections)}
    general = sections.pop("")
    yield Fact("signatures", f"{_rule(general)} by {policy.name}")
    for section, asks in sections.items():
        if asks != general:
            yield Fact(f"signatures: {section}", _rule(asks))
    signers = {one: None for asks in (general, *sections.values()) if asks.required for one in asks.signers}
    for one in signers:
        yield Fact(f"trusted: {one.name}", str(one))


def _rule(asks: Signatures) -> str:
    if not asks.required:
        return "not required"
    return f"{asks.threshold} of {', '.join(one.name for one in asks.signers)} required"


def _sigstore(*, needed: bool) -> Fact:
    try:
        version = metadata.version("sigstore")
    except metadata.PackageNotFoundError:
        found = "the library is not installed; policies that name identities need it"
        missing = ("the policy names identities", 'pip install "frys-runtime[sigstore]"') if needed else ()
        return Fact("Sigstore", found, *missing)
    from ..sigstore_bundle import trusted_until

    newer = "pip install --upgrade sigstore"
    try:
        until = trusted_until()
    except PluginError as error:
        return Fact("Sigstore", f"sigstore {version}", str(error), newer)
    found = f"sigstore {version}; its trust root is good until {until:%Y-%m-%d}"
    if until < datetime.now(UTC):
        return Fact("Sigstore", found, "nothing that was signed since then can be verified", newer)
    return Fact("Sigstore", found)


def _registries() -> Iterator[Fact]:
    from ..registry.client import require_installed

    try:
        chosen = choose_registries()
        if not chosen:
            yield Fact("registries", "none is configured")
            return
        require_installed()
    except (PluginError, UsageError) as error:
        yield Fact("registries", "none can be used", str(error), _MANUAL)
        return
    for one in chosen:
        try:
            yield _registry(one)
        except PluginError as error:
            yield Fact("registry", one.url, str(error), _MANUAL)


def _registry(configured: Configured) -> Fact:
    from ..registry.anchors import read_root
    from ..registry.client import endpoint_of, open_cache
    from ..registry.known import known_of

    if configured.root is not None:
        read_root(configured.root)  # says what is wrong with it
    url = endpoint_of(configured.url)
    known = known_of(open_cache(), url)
    if known is None:
        if configured.root is not None:
            return Fact("registry", f"{url}; its root is named, and nothing was fetched yet")
        why, how = (
            "no root of it is known",
            "name its root.json or its SHA-256 in registries.json, or by --root",
        )
        return Fact("registry", url, why, how)
    if "root" not in known.expires:
        return Fact("registry", f"{url}; its root is known ({known.how}), and nothing was fetched yet")
    now, until = datetime.now(UTC), known.expires["root"]
    found = f"{url}; root {known.root_version} ({known.how}) expires {until:%Y-%m-%d}"
    if "timestamp" in known.expires:
        found += f", and what was seen last {known.expires['timestamp']:%Y-%m-%d %H:%M} UTC"
    how = "its administrator has to renew it (`frys registry root renew`); then ask it for anything"
    if until < now:
        return Fact("registry", found, "its root has expired, and nothing of it is believed", how)
    if until - now < _SOON:
        found += f"; {how}"
    return Fact("registry", found)
