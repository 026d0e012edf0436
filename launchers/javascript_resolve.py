"""Which file of the plugin an ``import`` or a ``require()`` means: Node's algorithm over names in memory.

Sources: the sections "Resolution algorithm" of https://nodejs.org/api/esm.html and "All together" of
https://nodejs.org/api/modules.html. The plugin's folder is the root of everything. Whatever stands in a
``package.json`` is hostile: a value of the wrong type counts as absent, and the answer is always the name of
a file that came with the plugin, so no path can lead out of it.

A package's build for Node needs Node, so what bundlers for browsers do with packages is done beside it. The
conditions of ``exports`` and ``imports`` are ``import`` or ``require``, ``default``, and those that the
plugin names: ``worker`` and ``browser`` unless it says otherwise. With ``browser`` the field of that name
goes before ``main`` and replaces or takes away files
(https://github.com/defunctzombie/package-browser-field-spec). A file in ``node_modules`` may leave out the
extension of what it imports.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from .artifact import Value

ESM, COMMONJS, JSON, UNKNOWN = "e", "c", "j", "?"
"""The kinds of file. ``UNKNOWN`` is a ``.js`` that no ``package.json`` explains: its text decides."""

NOTHING = "<nothing>"
"""The name of a file that a package's ``browser`` field takes away: an empty one."""

_EXTENSIONS = (".js", ".json")
CONDITIONS = ("worker", "browser")
"""The conditions beside ``import``, ``require`` and ``default``."""

# fmt: off
_MODULES_OF_NODE = frozenset((
    "assert", "async_hooks", "buffer", "child_process", "cluster", "console", "constants", "crypto",
    "dgram", "diagnostics_channel", "dns", "domain", "events", "fs", "http", "http2", "https",
    "inspector", "module", "net", "os", "path", "perf_hooks", "process", "punycode", "querystring",
    "readline", "repl", "sqlite", "stream", "string_decoder", "sys", "test", "timers", "tls",
    "trace_events", "tty", "url", "util", "v8", "vm", "wasi", "worker_threads", "zlib",
))
# fmt: on

type Package = dict[str, Value]


class Resolver:
    """Resolves names for one plugin.

    Args:
        files: The names of the plugin's files.
        read_json: Reads one of them as a JSON object; ``None`` when it is none.
        conditions: Which conditions hold beside the usual ones.
    """

    def __init__(
        self,
        files: Mapping[str, object],
        read_json: Callable[[str], Package | None],
        conditions: Iterable[str] = CONDITIONS,
    ) -> None:
        self._files = files
        self._read_json = read_json
        self._packages: dict[str, Package | None] = {}
        both = frozenset((*conditions, "default"))
        self._conditions = {ESM: both | {"import"}, COMMONJS: both | {"require"}}
        self._mains = ("browser", "main", "module") if "browser" in both else ("main", "module")

    def resolve(self, base: str, specifier: str, how: str) -> str:
        """Find the file that ``specifier`` means in the file ``base``.

        Args:
            base: The importing file.
            specifier: What stands in the import.
            how: ``ESM`` for ``import``, ``COMMONJS`` for ``require()``, which guesses extensions.

        Raises:
            LookupError: There is no such file; the message says what was asked, by whom, and why not.
        """
        verb = "imports" if how == ESM else "requires"
        try:
            return self._replaced(self._resolve(base, specifier, how))
        except _NotFoundError as problem:
            raise LookupError(f"{base} {verb} {specifier[:200]!r}, {problem}") from None

    def kind(self, name: str) -> str:
        """Say how a file is to be read: by its extension, and for ``.js`` by the nearest package.json."""
        if name == NOTHING:
            return COMMONJS
        for suffix, kind in ((".mjs", ESM), (".cjs", COMMONJS), (".json", JSON)):
            if name.endswith(suffix):
                return kind
        package = self._package(self._scope(name)) or {}
        declared = package.get("type")
        if declared == "module":
            return ESM
        return COMMONJS if declared == "commonjs" else UNKNOWN

    def _resolve(self, base: str, specifier: str, how: str) -> str:
        if specifier.startswith("file:///"):
            specifier = _unescape(specifier.removeprefix("file://"))
        if specifier.startswith(("/", "./", "../")) or specifier in (".", ".."):
            path = _join("" if specifier.startswith("/") else base, specifier)
            folder = specifier in (".", "..") or specifier.endswith(("/", "/.", "/.."))
            guess = how == COMMONJS or "node_modules" in base.split("/")
            found = self._file(path, guess=guess, folder=folder)
            if found is None:
                raise _NotFoundError(f"but the plugin has no file {path!r}{self._hint(path)}")
            return found
        if specifier.startswith("#"):
            return self._private(base, specifier, how)
        return self._bare(base, specifier, how)

    def _hint(self, path: str) -> str:
        ends = (*_EXTENSIONS, ".mjs", ".cjs", "/index.js")
        there = next((path + end for end in ends if path + end in self._files), "")
        return f"; there is {there!r}" if there else ""

    def _file(self, path: str, *, guess: bool, folder: bool = False) -> str | None:
        """The file of a path; by a guess also with an extension, or what stands for a folder."""
        if path in self._files and not folder:
            return path
        if not guess:
            return None
        if not folder and path:
            for end in _EXTENSIONS:
                if path + end in self._files:
                    return path + end
        return self._main(path)

    def _main(self, folder: str) -> str | None:
        """The file that a folder stands for: what its package.json names, else index.js."""
        package = self._package(folder) or {}
        for key in self._mains:
            main = package.get(key)
            if isinstance(main, str) and main:
                try:
                    path = _join(_inside(folder, "package.json"), main.lstrip("/"))
                except _NotFoundError:
                    continue
                ends = ("", *_EXTENSIONS, "/index.js", "/index.json")
                for end in ends:
                    if path + end in self._files:
                        return path + end
        for index in ("index.js", "index.json"):
            if _inside(folder, index) in self._files:
                return _inside(folder, index)
        return None

    # packages

    def _package(self, folder: str | None) -> Package | None:
        if folder is None:
            return None
        if folder not in self._packages:
            name = _inside(folder, "package.json")
            self._packages[folder] = self._read_json(name) if name in self._files else None
        return self._packages[folder]

    def _scope(self, name: str) -> str | None:
        """The folder of the package.json that speaks for a file."""
        for folder in _folders_up(name):
            if _holds_packages(folder):
                return None
            if _inside(folder, "package.json") in self._files:
                return folder
        return None

    def _replaced(self, name: str) -> str:
        """Look a file up in the ``browser`` table of its package."""
        scope = self._scope(name)
        table = self._table(self._package(scope))
        if scope is None or not table:
            return name
        own = f"./{name[len(scope) :].lstrip('/')}"
        for key in (own, own.removesuffix(".js"), own.removesuffix("/index.js")):
            if key in table:
                return self._instead(scope, table[key]) or name
        return name

    def _table(self, package: Package | None) -> dict[str, Value]:
        """What a package wants to have replaced."""
        table = package.get("browser") if package and "browser" in self._mains else None
        return table if isinstance(table, dict) else {}

    def _instead(self, scope: str, target: Value) -> str | None:
        """What a ``browser`` table has in the place of a file or package; ``None`` when it makes no sense."""
        if target is False:
            return NOTHING
        if not isinstance(target, str):
            return None
        path = _join(_inside(scope, "package.json"), target)
        return self._file(path, guess=True) if target.startswith("./") else None

    def _private(self, base: str, specifier: str, how: str) -> str:
        """A name that begins with #: "imports" of the package's own package.json."""
        scope = self._scope(base)
        imports = (self._package(scope) or {}).get("imports")
        if scope is not None and isinstance(imports, dict):
            found = self._match(scope, imports, specifier, how, base)
            if found is not None:
                return found
        raise _NotFoundError('which "imports" of its package.json does not name')

    def _bare(self, base: str, specifier: str, how: str) -> str:
        of_node = specifier.startswith("node:")
        if ":" in specifier and not of_node:
            raise _NotFoundError("but only files of the plugin can be imported, never an address")
        name, subpath = _split(specifier.removeprefix("node:"))
        own = self._scope(base)
        package = self._package(own) or {}
        if own is not None and package.get("name") == name and package.get("exports") is not None:
            return self._exported(own, package["exports"], subpath, how)
        table = self._table(package)
        if own is not None and specifier in table:
            found = self._instead(own, table[specifier])
            if found is not None:
                return found
        for folder in _folders_up(base):
            if not _holds_packages(folder):
                found = self._installed(_inside(folder, f"node_modules/{name}"), subpath, how)
                if found is not None:
                    return found
        if of_node or name in _MODULES_OF_NODE:
            raise _NotFoundError(
                "a module of Node, which is not here: there are no files, sockets and processes to use, and "
                "for the rest a package from npm in node_modules can stand in"
            )
        raise _NotFoundError(f"but the plugin has no package {name!r} in its node_modules")

    def _installed(self, folder: str, subpath: str, how: str) -> str | None:
        """Look for a package in one place; ``None`` means: look further up."""
        package = self._package(folder)
        exports = package.get("exports") if package else None
        if exports is not None:
            return self._exported(folder, exports, subpath, how)
        if subpath == ".":
            return self._main(folder)
        path = _inside(folder, subpath[2:])
        found = self._file(path, guess=how == COMMONJS, folder=subpath.endswith("/"))
        if found is None and package is not None:
            raise _NotFoundError(f"but the plugin has no file {path!r}{self._hint(path)}")
        return found

    def _exported(self, folder: str, exports: Value, subpath: str, how: str) -> str:
        """PACKAGE_EXPORTS_RESOLVE: what a package offers under ``.`` or ``./name``."""
        table = exports
        if not isinstance(exports, dict) or not any(key.startswith(".") for key in exports):
            table = {".": exports}
        found = self._match(folder, table, subpath, how, "") if isinstance(table, dict) else None
        if found is None:
            raise _NotFoundError(f'but "exports" of {_inside(folder, "package.json")} does not offer it')
        return found

    def _match(self, folder: str, table: Mapping[str, Value], key: str, how: str, base: str) -> str | None:
        """PACKAGE_IMPORTS_EXPORTS_RESOLVE: the exact key, else the most exact pattern with a ``*``."""
        if key in table and "*" not in key and not key.endswith("/"):
            return self._target(folder, table[key], "", how, base)
        best, middle = "", ""
        for pattern in table:
            before, star, after = pattern.partition("*")
            if star and key.startswith(before) and key != before and key.endswith(after):
                longer = (len(before), len(pattern)) > (best.find("*"), len(best))
                if len(key) >= len(pattern) and longer:
                    best, middle = pattern, key[len(before) : len(key) - len(after)]
        return self._target(folder, table[best], middle, how, base) if best else None

    def _target(self, folder: str, target: Value, middle: str, how: str, base: str) -> str | None:
        """PACKAGE_TARGET_RESOLVE: the first file that holds under our conditions; ``base`` for imports."""
        for path in _targets(target, self._conditions[how]):
            if path is None:
                return None
            filled = path.replace("*", middle)
            if not path.startswith("./"):
                if base and not path.startswith(("../", "/")):
                    return self._bare(_inside(folder, "package.json"), filled, how)
                continue
            if not {"", ".", "..", "node_modules"} & set(filled[2:].split("/")):
                name = _inside(folder, filled[2:])
                if name not in self._files:
                    raise _NotFoundError(f"which means {name!r}, but the plugin has no such file")
                return name
        return None


class _NotFoundError(Exception):
    """The rest of a sentence that begins with what was asked."""


def _targets(target: Value, conditions: frozenset[str]) -> Iterator[str | None]:
    """Every path that a target can mean, the first first; ``None`` is a null: not offered."""
    if target is None or isinstance(target, str):
        yield target
    elif isinstance(target, list):
        for item in target:
            yield from _targets(item, conditions)
    elif isinstance(target, dict):
        for condition, item in target.items():
            if condition in conditions:
                yield from _targets(item, conditions)


def _inside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _holds_packages(folder: str) -> bool:
    return folder.rpartition("/")[2] == "node_modules"


def _unescape(path: str) -> str:
    """Undo the percent-encoding of an address."""
    first, *rest = path.encode("utf-8", "replace").split(b"%")
    made = first
    for part in rest:
        digits = part[:2].decode("ascii", "replace")
        is_escape = len(digits) == 2 and set(digits) <= set("0123456789ABCDEFabcdef")
        made += bytes.fromhex(digits) + part[2:] if is_escape else b"%" + part
    return made.decode("utf-8", "replace")


def _folders_up(name: str) -> Iterator[str]:
    """Every folder above a file, the nearest first; the plugin's own folder is the empty name."""
    folder = name
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _join(base: str, relative: str) -> str:
    """The name that a path relative to the file ``base`` means."""
    path = base.split("/")[:-1]
    for part in relative.split("/"):
        if part == "..":
            if not path:
                raise _NotFoundError("which lies outside of the plugin")
            path.pop()
        elif part not in ("", "."):
            path.append(part)
    return "/".join(path)


def _split(specifier: str) -> tuple[str, str]:
    """The name of a package, and the path in it as ``.`` or ``./path``."""
    parts: Iterable[str] = specifier.split("/")
    first, *rest = parts
    name = first
    if first.startswith("@") and rest:
        name = f"{first}/{rest.pop(0)}"
    if not first or first.startswith(".") or "\\" in name or "%" in name or ":" in name:
        raise _NotFoundError("but that is no name of a file or package (a file begins with ./)")
    subpath = "/".join(rest)
    if ".." in rest:
        raise _NotFoundError("but the name of a package's file may not climb")
    return name, f"./{subpath}" if subpath else "."
