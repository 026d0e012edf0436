"""What a manifest of Extism's says, as the section ``wasm.extism`` of ``plugin.json``, read strictly."""

from typing import Any

from ..artifact import Artifact, Value
from ..failures import BadArtifact
from ..wasm_extism import ENV
from ..wasm_wasi import MODULE as WASI

_PAGE = 1 << 16
_NUMBERS = {"max_pages": 1 << 16, "max_var_bytes": 1 << 20, "max_http_response_bytes": 50 << 20}


class Options:
    """The section, checked.

    Attributes:
        modules: ``modules``, name to file: the content of each module that stands beside the entry.
        hosts: ``allowed_hosts``, patterns; ``None`` where there are none.
        paths: ``allowed_paths``, folders of the host to names for them; ``None`` for all that is granted.
        max_memory: Bytes of ``max_pages``: of each memory when the plugin starts, and by how much it grows.
        max_variables: ``max_var_bytes``; 0 for no variables at all.
        max_response: ``max_http_response_bytes``.
    """

    __slots__ = ("hosts", "max_memory", "max_response", "max_variables", "modules", "paths")

    def __init__(
        self,
        modules: dict[str, memoryview],
        hosts: list[str] | None,
        paths: dict[str, str] | None,
        numbers: dict[str, int],
    ) -> None:
        self.modules, self.hosts, self.paths = modules, hosts, paths
        self.max_memory = numbers["max_pages"] * _PAGE
        self.max_variables, self.max_response = numbers["max_var_bytes"], numbers["max_http_response_bytes"]


def read(artifact: Artifact) -> Options:
    """Read the section; where there is none, what Extism assumes holds.

    Raises:
        BadArtifact: A key is unknown or has a value of the wrong type, or a module has no file or a name
            that is taken.
    """
    section: Any = artifact.options.get("extism", {})
    if not isinstance(section, dict):
        raise BadArtifact("plugin.json: wasm.extism must be an object")
    modules: dict[str, memoryview] = {}
    hosts: list[str] | None = None
    paths: dict[str, str] | None = None
    numbers = dict(_NUMBERS)
    for key, value in section.items():
        if key == "modules" and isinstance(value, dict):
            modules = {name: _file(artifact, name, path) for name, path in value.items()}
        elif key == "allowed_hosts" and isinstance(value, list) and all(type(one) is str for one in value):
            hosts = value
        elif (
            key == "allowed_paths"
            and isinstance(value, dict)
            and all(map(_is_name, (*value, *value.values())))
        ):
            paths = value
        elif key in _NUMBERS and type(value) is int and value >= 0:
            numbers[key] = value
        else:
            known = ", ".join(("modules", "allowed_hosts", "allowed_paths", *_NUMBERS))
            raise BadArtifact(
                f"plugin.json: wasm.extism.{key} is unknown or of the wrong type; known are {known}"
            )
    return Options(modules, hosts, paths, numbers)


def _file(artifact: Artifact, name: str, path: Value) -> memoryview:
    if name in (ENV, WASI):
        raise BadArtifact(f"a module of the plugin is named {name!r}, and that is a namespace of the host's")
    if not isinstance(path, str) or path not in artifact.files:
        raise BadArtifact(f"the file {path!r} of the module {name!r} is not among the plugin's files")
    return artifact.files[path]


def _is_name(value: Value) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value
