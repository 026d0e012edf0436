"""`frys verify`: who has signed a package, and whether that is enough."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidFormat, LoadFailed
from ..isolation import judge_signatures
from ..package import Package, open_package
from ..policy import load_policy
from ..policy_signatures import Identity, Signatures, TrustedKey, read_public_key
from ..signing import look_beside
from .exits import Exit, UsageError
from .market import DEFAULT_FOLDER
from .options import PolicyPath
from .terminal import print_json, printable, stderr, stdout


def command(
    package: Annotated[
        Path | None, typer.Argument(metavar="PACKAGE", help="A file that `frys pack` made.")
    ] = None,
    *,
    installed: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Instead of a package: all that is installed there, by frys.lock."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", "-k", metavar="KEY", help="A public key: its file, or its base64. Repeatable."),
    ] = None,
    threshold: Annotated[
        int, typer.Option("--threshold", "-n", min=1, help="How many of the keys must have signed.")
    ] = 1,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="WHO", help="Who has signed by Sigstore (PACKAGE.sigstore.json)."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="Who has told Sigstore so; with --identity.")
    ] = None,
    policy: PolicyPath = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Check a package and the signatures beside it against keys and an identity, or against a policy's.

    Signatures by keys are in PACKAGE.sig, that by an identity in PACKAGE.sigstore.json.

    Every byte of the package is checked, too. A signature does not expire; a policy that no longer names its
    key no longer counts it.

    With --installed, every byte that is installed in a folder is held against its frys.lock; with --policy,
    signatures, too.

    Exit codes: 0 enough of the keys have signed it; 1 they have not, or what is installed is not what is
    locked; 2 wrong words; 5 it is no package.
    """
    if (package is None) == (installed is None):
        raise UsageError("name a package, or a folder with installed plugins by --installed")
    if package is None or installed is not None:
        _verify_installed(installed or DEFAULT_FOLDER, policy, json=json)
        return
    if (identity is None) != (issuer is None):
        raise UsageError("--identity and --issuer belong together: anybody can be called anything somewhere")
    if (policy is None) == (not key and identity is None):
        raise UsageError("name public keys with --key, or a policy that has them with --policy")
    found = open_package(package)
    if policy is not None:
        wanted = load_policy(policy).policy(found.metadata.id).signatures
    else:
        who = (Identity(identity, identity, issuer),) if identity is not None and issuer is not None else ()
        wanted = _wanted(key or [], who, threshold)
    try:
        outcome = judge_signatures(wanted, look_beside(found, str(package)), str(package))
    except (LoadFailed, InvalidFormat) as error:
        reason = error.reason if isinstance(error, LoadFailed) else str(error)
        _tell(found, json=json, ok=False, outcome=reason.replace("its policy requires", "it needs"))
        raise typer.Exit(Exit.FAILED) from None
    _tell(found, json=json, ok=True, outcome=outcome)


def _verify_installed(folder: Path, policy: Path | None, *, json: bool) -> None:
    """Read all that is installed, and hold it against the lock, and signatures against the policy."""
    from ..marketplace.market import PluginMarketplace

    market = PluginMarketplace([], folder, policy=policy)
    count, found = len(market.list()), asyncio.run(market.verify())
    if json:
        findings = [{"id": one.plugin, "problem": one.problem} for one in found]
        print_json({"ok": not found, "folder": str(folder), "plugins": count, "findings": findings})
    else:
        lines = [str(one) for one in found] or [f"{count} plugins are what {folder}/frys.lock says"]
        (stderr() if found else stdout()).print(printable("\n".join(lines)), markup=False, soft_wrap=True)
    if found:
        raise typer.Exit(Exit.FAILED)


def _wanted(keys: list[str], identities: tuple[Identity, ...], threshold: int) -> Signatures:
    trusted: dict[bytes, TrustedKey] = {}
    for word in keys:
        public = _public_key(word)
        if public in trusted:
            raise UsageError(f"{word} is the same key as {trusted[public].name}; it counts once")
        trusted[public] = TrustedKey(word, public)
    if threshold > len(trusted) + len(identities):
        raise UsageError(
            f"--threshold is {threshold}, but only {len(trusted) + len(identities)} keys are named"
        )
    return Signatures(required=True, keys=tuple(trusted.values()), identities=identities, threshold=threshold)


def _public_key(word: str) -> bytes:
    """A key that the person named: what is base64 of 32 bytes is one, all else is a file."""
    try:
        return read_public_key(word)
    except ValueError:
        pass
    try:
        with open(word, encoding="ascii", errors="replace") as file:
            return read_public_key(file.read(200).strip())
    except OSError as error:
        raise UsageError(f"{word} is no public key in base64, and no file: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{word} is no public key: it {error}") from None


def _tell(package: Package, *, json: bool, ok: bool, outcome: str) -> None:
    about = package.metadata
    if json:
        print_json(
            {
                "ok": ok,
                "id": about.id,
                "version": about.version,
                "sha256": package.digest,
                "outcome": outcome,
            }
        )
        return
    console = stdout() if ok else stderr()
    say = f"{about.id} {about.version} (sha256:{package.digest}): {outcome}"
    console.print(printable(say), markup=False, soft_wrap=True)
