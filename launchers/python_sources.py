"""Where a Python plugin's own modules come from, and those of the packages that it brings along."""

import errno
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader, spec_from_file_location
from _imp import extension_suffixes

from .artifact import Artifact
from .failures import BadArtifact
from .python_given import Frys, logging_spec
from .python_modules import RESERVED, base_of, index, is_package, own_base

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.abc import Loader
    from importlib.metadata import Distribution, DistributionFinder
    from types import CodeType, ModuleType
    from typing import Any

    from .python_packages import Resources
else:
    Loader = object

TOO_LATE = "no file can be opened after loading; import it at the top of the plugin"


class Sources(Loader):
    """Finds and loads the plugin's own modules in memory; an entry of ``sys.meta_path``.

    Python's usual way would need the files, and after loading a plugin may have none. Only source and
    extension modules count: bytecode that a plugin brings along is not looked at.

    Attributes:
        entry: The entry file's module name.
        namespace: What the entry module holds, whatever it makes of ``sys.modules``.
        files: The plugin's files.
        root: The folder in which they lie as files, with a ``/`` at its end.
        bases: The folders whose modules are top-level: the entry's, then the vendored ones; each is empty or
            ends with a ``/``.
        unsupported: Extension modules that this interpreter has refused.
    """

    def __init__(self, artifact: Artifact) -> None:
        """Index the modules.

        Raises:
            BadArtifact: A module of the plugin's own has a name that is the host's.
        """
        self.namespace: dict[str, Any] = {}
        self.files = artifact.files
        self.root = f"{artifact.root}/" if artifact.root else ""
        self.unsupported: set[str] = set()
        self._host = artifact.host
        self._seen_logging = False
        vendored: Any = artifact.options.get("paths", [])
        own = own_base(artifact.entry, artifact.files)
        self.bases = [own, *(f"{path}/" for path in vendored)]
        *above, last = artifact.entry.removeprefix(own).removesuffix(".py").replace(".", "_").split("/")
        self.entry = ".".join(above if last == "__init__" else [*above, last])
        # A plugin json.py may well import the real json; a folder with an __init__.py has no name.
        if self.entry in sys.stdlib_module_names | RESERVED or not self.entry:
            self.entry = "plugin"
        self._above = "plugin" if artifact.entry == "__init__.py" else ""
        suffixes = [*extension_suffixes(), ".py"]
        if artifact.options.get("interpreter") != "main":
            # Of a source and its compiled form, the source is the one that certainly loads here.
            suffixes.insert(0, suffixes.pop())
        others = [path for path in artifact.files if path != artifact.entry]
        self._modules = index(others, self.bases, suffixes, self._above)
        for name in RESERVED & self._modules.keys():
            raise BadArtifact(f"{self._modules[name]} would hide the host's {name}; give it another name")
        self._modules[self.entry] = artifact.entry

    def install(self) -> None:
        """Become the first to be asked, after the built-in and frozen modules, as a script's folder is."""
        sys.meta_path.insert(2, self)
        sys.path_hooks.insert(0, self.folder)
        for name in self._modules:
            # What the fork server has imported must not hide a module of the plugin.
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if spec is not None and spec.origin not in {"built-in", "frozen"}:
                del sys.modules[name]

    def uninstall(self) -> None:
        """Take ``install()`` and every import back."""
        sys.meta_path.remove(self)
        sys.path_hooks.remove(self.folder)
        for name in self._modules:
            sys.modules.pop(name, None)

    def owns(self, module: object) -> bool:
        """Tell whether a module is one of the plugin's own."""
        return type(module) is str and module in self._modules

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        """Answer the import system."""
        if name in self._modules:
            return self._spec(name, self._modules[name])
        if name == "frys":
            return ModuleSpec(name, Frys(self._host), origin="the host")
        if name == "logging" and not self._seen_logging:
            self._seen_logging = True  # the search below comes back here
            return logging_spec(self._host)
        return None

    def _spec(self, name: str, file: str) -> ModuleSpec | None:
        folder, _, last = file.rpartition("/")
        package = is_package(file)
        locations = [f"{self.root}{folder}".rstrip("/")] if package else None
        if not last:
            inner = file.removeprefix(base_of(file, self.bases) or "")
            parts = [f"{base}{inner}" for base in self.bases]
            there = [part for part in parts if any(path.startswith(part) for path in self.files)]
            locations = [f"{self.root}{part}".rstrip("/") for part in there]
        if last.endswith(".so"):
            loader = _Extension(name, self.root + file, self.unsupported)
            return spec_from_file_location(
                name, self.root + file, loader=loader, submodule_search_locations=locations
            )
        spec = ModuleSpec(name, self, origin=self.root + file, is_package=package)
        spec.has_location = bool(last)
        if locations is not None:
            spec.submodule_search_locations = locations
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make the module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run a module's code."""
        if module.__name__ == self.entry:
            self.namespace = module.__dict__
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - an importer does that

    def get_code(self, name: str) -> "CodeType":
        """Compile a module; ``runpy`` and ``pkgutil`` ask for it, too.

        Raises:
            SyntaxError: The file is not Python.
        """
        file = self._modules[name]
        content = b"" if file.endswith("/") else bytes(self.files[file])
        try:
            return compile(content, self.root + file, "exec", dont_inherit=True)
        except SyntaxError as error:
            # Some mistakes are found before the compiler thinks of the file.
            error.filename = error.filename or self.root + file
            raise

    def get_source(self, name: str) -> str:
        """Give a module's text, for ``linecache``: a plugin may print tracebacks itself."""
        content = self.files.get(self._modules.get(name, ""))
        return str(content, "utf-8", "replace") if content is not None else ""

    def get_data(self, path: str) -> bytes:
        """Give a file of the plugin, for ``pkgutil.get_data``.

        Raises:
            OSError: The plugin has no such file.
        """
        name = path.removeprefix(self.root)
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "the plugin has no such file", path)
        return bytes(self.files[name])

    def get_resource_reader(self, name: str) -> "Resources | None":
        """Answer ``importlib.resources``."""
        from .python_packages import Resources

        spec = self.find_spec(name)
        folders = spec.submodule_search_locations if spec is not None else None
        return Resources(self, folders[0]) if folders else None

    def find_distributions(self, context: "DistributionFinder.Context") -> "Iterable[Distribution]":
        """Answer ``importlib.metadata``, which knows packages and their entry points by their metadata."""
        from .python_packages import find_distributions

        return find_distributions(self, context)

    def folder(self, path: str) -> "_Folder":
        """Answer ``pkgutil``, which lists modules by folder; an entry of ``sys.path_hooks``.

        Raises:
            ImportError: It is not one of the plugin's folders.
        """
        inner = f"{path}/".removeprefix(self.root)
        base = base_of(inner, self.bases)
        if not self.root or inner == f"{path}/" or base is None:
            raise ImportError("it is not one of the plugin's folders", path=path)
        above = self._above if base == self.bases[0] else ""
        return _Folder(self, ".".join([above, *inner.removeprefix(base).split("/")]).strip("."))

    def modules_in(self, package: str) -> "Iterator[tuple[str, bool]]":
        """Name what lies directly in a package, or at the top, and tell whether each is a package."""
        for name, file in sorted(self._modules.items()):
            above, _, last = name.rpartition(".")
            if above == package:
                yield last, is_package(file)

    def line(self, file: str, number: int) -> str:
        """Give one line of a source file of the plugin, for tracebacks; empty when there is none."""
        content = self.files.get(file.removeprefix(self.root))
        lines = str(content, "utf-8", "replace").splitlines() if content is not None else []
        return lines[number - 1] if 0 < number <= len(lines) else ""


class _Folder:
    """One folder of the plugin as Python's path-based machinery wants to see it."""

    def __init__(self, sources: Sources, package: str) -> None:
        self._sources = sources
        self._package = package

    def find_spec(self, name: str, target: "ModuleType | None" = None) -> ModuleSpec | None:
        """Find a module in this folder by the last part of its name."""
        return self._sources.find_spec(f"{self._package}.{name.rpartition('.')[2]}".lstrip("."))

    def iter_modules(self, prefix: str = "") -> "Iterator[tuple[str, bool]]":
        """Answer ``pkgutil.iter_modules``."""
        for name, package in self._sources.modules_in(self._package):
            yield prefix + name, package


class _Extension(ExtensionFileLoader):
    """Loads an extension module of the plugin, and says what to do when this interpreter refuses it."""

    def __init__(self, name: str, path: str, unsupported: set[str]) -> None:
        super().__init__(name, path)
        self._unsupported = unsupported

    def create_module(self, spec: ModuleSpec) -> "ModuleType":
        try:
            return super().create_module(spec)
        except ImportError as error:
            # CPython's words, the same from 3.12 to 3.15.
            if "subinterpreters" in str(error):
                self._unsupported.add(spec.name)
                reason = (
                    'does not support subinterpreters; "interpreter": "main" in plugin.json lets the plugin '
                    "run outside of one"
                )
            elif not _can_be_opened(self.path):
                reason = f"cannot be loaded now: {TOO_LATE}"
            else:
                raise
            raise ImportError(
                f"the extension module {spec.name} {reason}", name=spec.name, path=self.path
            ) from None


def _can_be_opened(path: str) -> bool:
    try:
        open(path, "rb").close()
    except OSError:
        return False
    return True
