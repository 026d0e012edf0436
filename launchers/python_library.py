"""Python's standard library as one block of memory that every plugin process shares.

At level Maximum a plugin cannot open a file once it is loaded, yet Python imports on demand:
``datetime.strptime`` imports ``_strptime``, an encoding imports its codec, and many a plugin has an import
inside a function. So the fork server puts the compiled standard library into a memory file that its
children inherit mapped, read-only and private; an import from there is no system call and costs no
memory but the module's own. Extension modules work as well when the fork server has loaded them: the
dynamic linker finds a library by its name among those already open.
"""

import builtins
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader, spec_from_file_location
from marshal import loads  # noqa: TID251 - python_collect wrote it, no plugin could

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from types import CodeType, ModuleType
else:
    Loader = object

_BUILTINS = dict(vars(builtins))
_OURS = "frys_runtime."


class Library(Loader):
    """Finds and loads modules of the standard library in memory; an entry of ``sys.meta_path``.

    Attributes:
        index: A line ``name kind offset size`` for each module, between line ends. Kind ``m`` is a module,
            ``p`` a package (both compiled code), ``x`` an extension module (its path).
        blob: What the index points into.
        root: The standard library's folder.
    """

    def __init__(self, index: bytes, blob: memoryview, root: str) -> None:
        self.index = index
        self.blob = blob
        self.root = root

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        """Answer the import system."""
        found = self._entry(name)
        if found is None:
            return None
        kind, content = found
        if kind == b"x":
            file = str(content, "utf-8")
            return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))
        place = f"{self.root}/{name.replace('.', '/')}"
        file = f"{place}/__init__.py" if kind == b"p" else f"{place}.py"
        spec = ModuleSpec(name, self, origin=file, is_package=kind == b"p")
        spec.has_location = True
        if kind == b"p":
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make the module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module's code."""
        if module.__name__.startswith(_OURS):
            # Our own code keeps the builtins it began with, whatever the plugin does to them.
            module.__dict__["__builtins__"] = _BUILTINS
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - an importer does that

    def get_code(self, name: str) -> "CodeType":
        """Give a module's code, which ``runpy`` and ``pkgutil`` ask for.

        Raises:
            ImportError: The module is not here, or has no code.
        """
        found = self._entry(name)
        if found is None or found[0] == b"x":
            raise ImportError(f"no code of {name} in the shared standard library", name=name)
        code: CodeType = loads(found[1])  # noqa: S302 - see the import
        return code

    def _entry(self, name: str) -> tuple[bytes, memoryview] | None:
        at = self.index.find(b"\n%s " % name.encode("utf-8", "replace"))
        if at < 0:
            return None
        _, kind, offset, size = self.index[at + 1 : self.index.index(b"\n", at + 1)].split(b" ")
        return kind, self.blob[int(offset) : int(offset) + int(size)]
