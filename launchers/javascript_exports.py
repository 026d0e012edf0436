"""Which names a CommonJS file will export, found in its text before it runs.

An ``import { name }`` of a CommonJS file is linked before that file runs, so its names have to be known
then. This finds what Node's scanner finds (https://github.com/nodejs/cjs-module-lexer): assignments to
``exports``, ``Object.defineProperty(exports, ...)``, the keys of an object literal, and re-exports. It is a
guess on purpose: a name too many is ``undefined`` when it is imported, a name too few is a clear error of
the linker, and ``default`` is always all there is.
"""

MAX_NAMES = 5000
"""Names of one file; no file in use has as many."""

_SPACE = b" \t\r\n"
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$") | frozenset(
    range(128, 256)
)
_MAX_DISTANCE = 1 << 17
_KEYS = b"Object.keys("


def scan(source: bytes) -> tuple[list[str], list[str]]:
    """Find the names that a file exports, and the requests that it re-exports.

    Both are empty for a file that mentions no ``exports``.
    """
    names: dict[str, None] = {}
    again: dict[str, None] = {}
    at = source.find(b"exports")
    while at >= 0 and len(names) < MAX_NAMES:
        end = at + len(b"exports")
        if (at == 0 or source[at - 1] not in _WORD) and (end == len(source) or source[end] not in _WORD):
            _look(source, at, end, names, again)
        at = source.find(b"exports", end)
    for helper in (b"__exportStar(", b"__export(", b"__reExport("):
        at = source.find(helper)
        while at >= 0 and len(again) < MAX_NAMES:
            found = _required(source, at + len(helper), within=80)
            if found:
                again[found] = None
            at = source.find(helper, at + len(helper))
    again |= dict.fromkeys(_copied(source))
    return list(names)[:MAX_NAMES], list(again)


def _copied(source: bytes) -> list[str]:
    """What Babel re-exports: ``Object.keys(_x).forEach(...)`` with ``_x = require("text")`` before it."""
    found: list[str] = []
    at = source.find(_KEYS)
    while at >= 0 and len(found) < MAX_NAMES:
        name, end = _name(source, at + len(_KEYS))
        if name and source.startswith(b").forEach(", end):
            for equals in (b" = ", b"="):
                start = source.rfind(name.encode() + equals, max(at - _MAX_DISTANCE, 0), at)
                text = _required(source, start + len(name) + len(equals), within=60) if start >= 0 else ""
                if text:
                    found.append(text)
                    break
        at = source.find(_KEYS, end)
    return found


def looks_like_commonjs(source: bytes) -> bool:
    """Guess whether a file that nothing declares is meant as CommonJS rather than as a script.

    It has to assign to ``exports`` or ``module.exports``. A script may do so too, when a library is pasted
    into it: then it declares functions at the left margin, but does not export there.
    """
    names, again = scan(source)
    if not names and not again and not _replaces_exports(source):
        return False
    lines = source.splitlines()
    exports = (b"module.exports", b"exports.", b"exports[", b"Object.defineProperty(exports", b"0 && (module")
    declares = any(line.startswith((b"function ", b"async function ")) for line in lines)
    return not declares or any(line.startswith(exports) for line in lines)


def _replaces_exports(source: bytes) -> bool:
    at = source.find(b"module.exports")
    while at >= 0:
        end = at + len(b"module.exports")
        if (at == 0 or source[at - 1] not in _WORD) and _is_assignment(source, end):
            return True
        at = source.find(b"module.exports", end)
    return False


def _look(source: bytes, at: int, end: int, names: dict[str, None], again: dict[str, None]) -> None:
    """Read what stands around one ``exports``."""
    of_module = source[max(at - 7, 0) : at] == b"module."
    if at and source[at - 1] == 0x2E and not of_module:
        return
    after = _skip(source, end)
    following = source[after : after + 1]
    if following == b".":
        name, rest = _name(source, _skip(source, after + 1))
        if name and _is_assignment(source, rest):
            names[name] = None
    elif following == b"[":
        name, rest = _quoted(source, _skip(source, after + 1))
        rest = _skip(source, rest)
        if name and source[rest : rest + 1] == b"]" and _is_assignment(source, rest + 1):
            names[name] = None
    elif following == b",":
        start = at - 7 if of_module else at
        if source[max(start - 64, 0) : start].rstrip(_SPACE).endswith(b"defineProperty("):
            name, _ = _quoted(source, _skip(source, after + 1))
            if name:
                names[name] = None
    elif of_module and following == b"=" and source[after + 1 : after + 2] not in (b"=", b">"):
        _whole(source, _skip(source, after + 1), names, again)


def _whole(source: bytes, at: int, names: dict[str, None], again: dict[str, None]) -> None:
    """Read what ``module.exports`` becomes: an object literal, or another module."""
    if source[at : at + 1] != b"{":
        found = _required(source, at, within=0)
        if found:
            again[found] = None
        elif not names:
            names |= dict.fromkeys(_members(source, _name(source, at)[0]))
        return
    at = _skip(source, at + 1)
    end = at + _MAX_DISTANCE
    while at < end and len(names) < MAX_NAMES:
        if source.startswith(b"...", at):
            found = _required(source, at + 3, within=0)
            if not found:
                return
            again[found] = None
            close = source.find(b")", at)
            at = _skip(source, close + 1 if close >= 0 else len(source))
        else:
            name, at = _quoted(source, at) if source[at : at + 1] in (b"'", b'"') else _name(source, at)
            if not name:
                return
            names[name] = None
            at = _skip(source, at)
            if source[at : at + 1] == b":":
                # Only a plain name as the value: where anything else ends, only a parser knows.
                value, at = _name(source, _skip(source, at + 1))
                at = _skip(source, at)
                if not value:
                    return
        if source[at : at + 1] != b",":
            return
        at = _skip(source, at + 1)


def _members(source: bytes, name: str) -> list[str]:
    """What is assigned to the members of a name; modules that stand in for Node's are mostly made so."""
    found: list[str] = []
    key = name.encode() + b"."
    at = source.find(key) if name else -1
    while at >= 0 and len(found) < MAX_NAMES:
        member, end = _name(source, at + len(key))
        if (at == 0 or source[at - 1] not in _WORD) and member and _is_assignment(source, end):
            found.append(member)
        at = source.find(key, at + len(key))
    return found


def _required(source: bytes, at: int, within: int) -> str:
    """The text in ``require("text")`` here, or at most ``within`` bytes further on."""
    at = _skip(source, at)
    start = source.find(b"require(", at, at + within + len(b"require("))
    return _quoted(source, _skip(source, start + len(b"require(")))[0] if start >= 0 else ""


def _is_assignment(source: bytes, at: int) -> bool:
    at = _skip(source, at)
    return source[at : at + 1] == b"=" and source[at + 1 : at + 2] not in (b"=", b">")


def _skip(source: bytes, at: int) -> int:
    """The next place that is neither space nor comment."""
    while True:
        while source[at : at + 1] and source[at] in _SPACE:
            at += 1
        if source.startswith(b"//", at):
            at = source.find(b"\n", at)
        elif source.startswith(b"/*", at):
            at = source.find(b"*/", at) + 2
            at = at if at > 1 else -1
        else:
            return at
        if at < 0:
            return len(source)


def _name(source: bytes, at: int) -> tuple[str, int]:
    end = at
    while end < len(source) and source[end] in _WORD:
        end += 1
    return source[at:end].decode("utf-8", "replace"), end


def _quoted(source: bytes, at: int) -> tuple[str, int]:
    """A string without escapes; the empty text when none stands here."""
    quote = source[at : at + 1]
    if quote not in (b"'", b'"'):
        return "", at
    end = source.find(quote, at + 1, at + 256)
    text = source[at + 1 : end] if end > 0 else b""
    if not text or b"\\" in text or b"\n" in text:
        return "", at
    return text.decode("utf-8", "replace"), end + 1
