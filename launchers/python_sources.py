"""Where a Python plugin's own modules come from."""

import errno
import sys
from _frozen_importlib import ModuleSpec

from .artifact import Artifact

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from types import CodeType, ModuleType
    from typing import Any
else:
    Loader = object


class Sources(Loader):
    """Finds and loads the plugin's own modules in memory; an entry of ``sys.meta_path``.

    Python's usual way would need the files, and after loading a plugin may have none.

    Attributes:
        entry: The entry file's module name.
        namespace: What the entry module holds, whatever it makes of ``sys.modules``.
        search_path: The folder whose modules are top-level.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.namespace: dict[str, Any] = {}
        self._files = artifact.files
        self._root = f"{artifact.root}/" if artifact.root else ""
        base = _base(artifact.entry, artifact.files)
        self.search_path = f"{self._root}{base}".rstrip("/")
        self.entry = _module_name(artifact.entry.removeprefix(base))
        if self.entry in sys.stdlib_module_names or not self.entry:
            # A plugin json.py may well import the real json; a folder with an __init__.py has no name.
            self.entry = "plugin"
        above = "plugin." if artifact.entry == "__init__.py" else ""
        # Name to file. A folder that only holds modules is a package without code: a path that ends in /.
        self._modules: dict[str, str] = {}
        for path in artifact.files:
            if path.endswith(".py") and path.startswith(base) and path != artifact.entry:
                inner = path.removeprefix(base)
                self._modules[above + _module_name(inner)] = path
                while inner := inner.rpartition("/")[0]:
                    self._modules.setdefault(above + _module_name(inner), f"{base}{inner}/")
        self._modules[self.entry] = artifact.entry

    def install(self) -> None:
        """Become the first to be asked, after the built-in and frozen modules, as a script's folder is."""
        sys.meta_path.insert(2, self)
        for name in self._modules:
            # What the fork server has imported must not hide a module of the plugin.
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if spec is not None and spec.origin not in {"built-in", "frozen"}:
                del sys.modules[name]
        if any(path.endswith(".so") for path in self._files):
            # Extension modules can only come from files.
            sys.path.insert(0, self.search_path)

    def uninstall(self) -> None:
        """Take ``install()`` and every import back."""
        sys.meta_path.remove(self)
        for name in self._modules:
            sys.modules.pop(name, None)

    def owns(self, module: object) -> bool:
        """Tell whether a module is one of the plugin's own."""
        return type(module) is str and module in self._modules

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        """Answer the import system."""
        if name not in self._modules:
            return None
        folder, _, file = self._modules[name].rpartition("/")
        package = file in {"", "__init__.py"}
        spec = ModuleSpec(name, self, origin=self._root + self._modules[name], is_package=package)
        spec.has_location = bool(file)
        if package:
            spec.submodule_search_locations = [f"{self._root}{folder}".rstrip("/")]
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
        content = b"" if file.endswith("/") else bytes(self._files[file])
        try:
            return compile(content, self._root + file, "exec", dont_inherit=True)
        except SyntaxError as error:
            # Some mistakes are found before the compiler thinks of the file.
            error.filename = error.filename or self._root + file
            raise

    def get_source(self, name: str) -> str:
        """Give a module's text, for ``linecache``: a plugin may print tracebacks itself."""
        content = self._files.get(self._modules.get(name, ""))
        return str(content, "utf-8", "replace") if content is not None else ""

    def get_data(self, path: str) -> bytes:
        """Give a file of the plugin, for ``pkgutil.get_data``.

        Raises:
            OSError: The plugin has no such file.
        """
        name = path.removeprefix(self._root)
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, "the plugin has no such file", path)
        return bytes(self._files[name])

    def line(self, file: str, number: int) -> str:
        """Give one line of a source file of the plugin, for tracebacks; empty when there is none."""
        content = self._files.get(file.removeprefix(self._root))
        lines = str(content, "utf-8", "replace").splitlines() if content is not None else []
        return lines[number - 1] if 0 < number <= len(lines) else ""


def _base(entry: str, files: dict[str, memoryview]) -> str:
    """Find the folder whose modules are top-level: the entry's, or the one above its package."""
    folder = entry.rpartition("/")[0]
    while folder and f"{folder}/__init__.py" in files:
        folder = folder.rpartition("/")[0]
    return f"{folder}/" if folder else ""


def _module_name(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(part.replace(".", "_") for part in parts)
