"""Which ids a plugin of a registry may have: no two that a person could take for each other."""

import re
from typing import Final

ID_RULE: Final = (
    "must be 1 to 64 letters and digits, with single dashes, dots or underscores between them, so that every "
    "kind of client can name it"
)
_ID: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
MAX_ID: Final = 64

# What would pass for this project, for the registry itself, or is a device on some systems (a downloaded file
# has the id as its name: https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
_RESERVED: Final = (
    *("frys", "frys-runtime", "frys-registry", "frys-official", "official", "registry", "admin", "security"),
    *("administrator", "root", "support", "api", "plugins", "plugin", "index", "search", "tuf", "v2"),
    *("healthz", "metrics", "static", "con", "prn", "aux", "nul"),
    *(f"{device}{number}" for device in ("com", "lpt") for number in range(1, 10)),
)


def is_name(text: str) -> bool:
    """Whether an id, or a publisher's name, is of a form that the registry takes."""
    return len(text) <= MAX_ID and _ID.fullmatch(text) is not None


def skeleton(name: str) -> str:
    """What all names have in common that look alike: two plugins never share it.

    Ids are ASCII, so this is the part of UTS #39's confusables.txt that lies in ASCII (``I``, ``1`` and
    ``l``; ``0`` and ``O``; ``rn`` and ``m``; ``vv`` and ``w``), without case, dashes, dots and underscores.
    """
    folded = name.replace("I", "l").casefold().translate(_LOOKS)
    return folded.replace("rn", "m").replace("vv", "w")


_LOOKS: Final = str.maketrans({"0": "o", "1": "l", "-": None, "_": None, ".": None})


def reserved_skeletons(more: tuple[str, ...]) -> frozenset[str]:
    """The skeletons that are taken from the start.

    Args:
        more: Names that an administrator reserved.
    """
    return _ALWAYS | {skeleton(name) for name in more}


_ALWAYS: Final = frozenset(map(skeleton, _RESERVED))
