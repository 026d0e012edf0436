"""Where supervisors meet, and with which keys those of other machines are let in."""

import functools
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..errors import ConfigError

_SYSTEM: Final = "/run/frys"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_ADDRESS: Final = re.compile(r"tcp://(?P<host>[^/:\s*]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class BusConfig:
    """Settings of the message bus.

    On one machine none is needed: supervisors of the same user find each other in a folder that only this
    user can enter. The other settings are for supervisors of other machines, and off by default; they are
    spoken to by CURVE (https://rfc.zeromq.org/spec/26/) only, with keys on both sides.

    Attributes:
        folder: Where supervisors meet: ``/run/frys`` for root, else ``$XDG_RUNTIME_DIR/frys``. Made when it
            is not there; it must be the user's own, and nobody else may enter it.
        listen: An address for those of other machines: ``tcp://10.0.0.5:7171``.
        connect: Addresses of others, each with its public key (Z85, 40 characters).
        secret_key: A file with the own secret key (Z85), readable by its owner only.
        allow: Public keys of those who may connect to ``listen``.
        control: Others may reload, load and unload plugins, and what else ``frys`` does to those that run.
            Off, they can still look, call and publish. By default on, and off once other machines are
            spoken to.
    """

    folder: str | os.PathLike[str] | None = None
    listen: str | None = None
    connect: Mapping[str, str] = field(default_factory=dict)
    secret_key: str | os.PathLike[str] | None = None
    allow: tuple[str, ...] = ()
    control: bool | None = None

    def __post_init__(self) -> None:
        if (self.listen or self.connect) and self.secret_key is None:
            raise ConfigError(
                "bus: secret_key", "is missing; whoever speaks to other machines needs a key of their own"
            )
        if self.listen and not self.allow:
            raise ConfigError("bus: allow", "is empty; name the public keys of those who may connect")
        if self.allow and not self.listen:
            raise ConfigError("bus: allow", "is for those who connect to listen, which is not set")
        for address in (self.listen, *self.connect):
            if address is not None and not _ADDRESS.fullmatch(address):
                raise ConfigError("bus: listen, connect", f"is {address!r}; it must be tcp://HOST:PORT")
        for key in (*self.allow, *self.connect.values()):
            if not _is_key(key):
                raise ConfigError("bus", f"{key!r} is no public key; one has 40 characters (Z85)")

    @property
    def is_controlled(self) -> bool:
        """Whether others may do to its plugins what ``frys`` does to those that run."""
        return not (self.listen or self.connect) if self.control is None else self.control

    def read_secret_key(self) -> bytes | None:
        """The own secret key, if there is one.

        Raises:
            ConfigError: Its file cannot be read, or others can read it too, or it holds no key.
        """
        if self.secret_key is None:
            return None
        try:
            with open(self.secret_key, "rb") as file:
                facts, key = os.fstat(file.fileno()), file.read(100).strip()
        except OSError as error:
            raise ConfigError("bus: secret_key", f"{self.secret_key}: {error.strerror}") from None
        if stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_uid not in (0, os.geteuid()):
            reason = f"{self.secret_key} can be read by others; chown it to this user, and chmod it to 600"
            raise ConfigError("bus: secret_key", reason)
        if not _is_key(key.decode("ascii", "replace")):
            raise ConfigError("bus: secret_key", f"{self.secret_key} holds no key of 40 characters (Z85)")
        return key


def settings(bus: bool | str | os.PathLike[str] | BusConfig) -> BusConfig | None:
    """What a host program has said of the bus; ``None`` for that it takes no part."""
    match bus:
        case False:
            return None
        case True:
            return BusConfig()
        case BusConfig():
            return bus
    return BusConfig(folder=bus)


def default_folder() -> str:
    """Where supervisors of this user meet when nothing else is said.

    Raises:
        ConfigError: This user has no runtime directory (file-hierarchy(7), XDG Base Directory Specification).
    """
    if os.geteuid() == 0:
        return _SYSTEM
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(runtime):
        raise ConfigError(
            "bus: folder", "XDG_RUNTIME_DIR is not set, so there is no place for it; name a folder"
        )
    return os.path.join(runtime, "frys")


def _is_key(text: str) -> bool:
    """Whether it is 32 bytes in Z85 (https://rfc.zeromq.org/spec/32/): five digits for each four bytes."""
    groups = [text[at : at + 5] for at in range(0, 40, 5)]
    numbers = [
        functools.reduce(lambda total, digit: 85 * total + _DIGITS.find(digit), group, 0) for group in groups
    ]
    return len(text) == 40 and not set(text) - set(_DIGITS) and max(numbers) < 1 << 32
