"""What a failure looks like: a sentence about what happened and what to do, and the attack by its name.

The names are those of the TUF specification, section 1.5.2:
https://theupdateframework.github.io/specification/latest/#goals-to-protect-against-specific-attacks
"""

from datetime import UTC, datetime
from typing import Final

from tuf.api import exceptions
from tuf.api.serialization import DeserializationError

from ..errors import RegistryError
from .transport import Answered, TooLong, TooSlow, TransferError

type Failure = TransferError | exceptions.RepositoryError | exceptions.DownloadError

# What python-tuf raises, a part of its text, the attack, and the story. The first that fits counts.
_SIGNS: Final[tuple[tuple[type[Exception], str, str, str], ...]] = (
    (exceptions.ExpiredMetadataError, "", "freeze", "it answers with metadata that has expired"),
    (
        exceptions.UnsignedMetadataError,
        "",
        "wrong keys",
        "its metadata is not signed by the keys that the trusted root names",
    ),
    (
        exceptions.BadVersionNumberError,
        "must be >=",
        "rollback",
        "it answers with older metadata than this machine has seen already",
    ),
    (exceptions.BadVersionNumberError, "root version", "rollback", "its roots do not follow one another"),
    (
        exceptions.BadVersionNumberError,
        ".json version",
        "rollback",
        "it lists an older file than this machine has seen already",
    ),
    (
        exceptions.BadVersionNumberError,
        "",
        "mix-and-match",
        "files of different states of the registry were put together",
    ),
    (
        exceptions.LengthOrHashMismatchError,
        "",
        "mix-and-match",
        "a metadata file is not the one whose hash is signed",
    ),
    (
        exceptions.RepositoryError,
        "missing info",
        "mix-and-match",
        "what was listed before is not listed any more",
    ),
    (DeserializationError, "", "arbitrary software", "its metadata cannot be read"),
    (exceptions.RepositoryError, "", "arbitrary software", "its metadata is not what it has to be"),
)

_WHAT_TO_DO: Final = {
    "freeze": "Check this machine's clock, which says {now}; if it is right, ask the registry's "
    "administrator why nothing newer is signed, or name a mirror that is kept up",
    "rollback": "A mirror that lags behind does this, too: use the registry itself; otherwise tell its "
    "administrator",
    "mix-and-match": "Try again; if it stays so, tell the registry's administrator",
    "wrong keys": "Is this the registry that the root belongs to? Get its root by a way that you trust, and "
    "install nothing from here until then",
    "arbitrary software": "Install nothing from here, use a mirror, and tell the registry's administrator",
}


def explain(endpoint: str, what: str, error: Failure) -> RegistryError:
    """The error to raise when something could not be fetched, or must not be believed.

    Args:
        endpoint: Who answered.
        what: What was fetched.
        error: What went wrong.
    """
    if isinstance(error, TransferError):
        attack, advice = _advice(error)
        return RegistryError(endpoint, f"{what} could not be fetched: {error}{advice}", attack=attack)
    if isinstance(error, exceptions.DownloadError):
        return RegistryError(endpoint, f"{what} could not be fetched: {_plain(error)}")
    text = str(error)
    signs = (sign for sign in _SIGNS if isinstance(error, sign[0]))
    attack, story = next(sign[2:] for sign in signs if sign[1] in text)
    return accuse(endpoint, what, attack, f"{story} ({_plain(error)})")


def accuse(endpoint: str, what: str, attack: str, story: str) -> RegistryError:
    """The error to raise when something was refused that looks like an attack."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    article = "an" if attack[0] == "a" else "a"
    return RegistryError(
        endpoint,
        f"{what} was refused: {story}; it looks like {article} {attack} attack. Nothing of it was kept. "
        f"{_WHAT_TO_DO[attack].format(now=now)}",
        attack=attack,
    )


def _advice(error: TransferError) -> tuple[str, str]:
    if isinstance(error, TooLong):
        kind = "endless data"
        return kind, f"; it looks like an {kind} attack, or a broken server. Nothing was kept; use a mirror"
    if isinstance(error, TooSlow):
        kind = "slow retrieval"
        return kind, f"; it looks like a {kind} attack, or a bad line. Try again later, or use a mirror"
    if isinstance(error, Answered) and error.status == 404:
        return "", "; is this the address of a registry?"
    return "", ""


def _plain(error: Exception) -> str:
    """What the library says, in one line that cannot drive a terminal."""
    return plain(" ".join(str(error).split())[:300] or type(error).__name__)


def plain(text: str) -> str:
    """Words of a stranger, to stand in an error: they cannot drive a terminal nor turn its writing around."""
    return text if text.isprintable() else ascii(text)[1:-1]
