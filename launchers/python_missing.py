"""What an author can do about an import that failed; more than Python's own words."""

import sys

from .python_sources import Sources

_MAX_CHAIN = 8


def hint(error: ImportError, sources: Sources, *, late: bool) -> str:
    """Say in parentheses what to do about it, as far as that can be known; otherwise nothing.

    Args:
        error: What was raised.
        sources: The plugin's modules.
        late: The plugin is loaded.
    """
    name = error.name if type(error.name) is str else ""
    advice = _unsupported(error, sources)
    if late and not advice and _needs_a_file(error, name, sources):
        advice = "no file can be opened after loading: import it at the top of the plugin"
    if not advice and isinstance(error, ModuleNotFoundError) and name:
        advice = _undeclared(name, sources) or _foreign(name, sources)
    return f" ({advice})" if advice else ""


def _unsupported(error: BaseException, sources: Sources) -> str:
    """Packages like to answer the refusal of their extension module with a long text of their own."""
    cause: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if cause is None or not sources.unsupported:
            return ""
        if isinstance(cause, ImportError) and cause.name in sources.unsupported and cause is not error:
            return cause.msg
        cause = cause.__cause__ if cause.__cause__ is not None else cause.__context__
    return ""


def _needs_a_file(error: ImportError, name: str, sources: Sources) -> bool:
    """Part of the standard library cannot be kept in memory, and no extension module of a plugin."""
    if isinstance(error, ModuleNotFoundError):
        return name in sys.stdlib_module_names
    if not sources.owns(name) or type(error.path) is not str:
        return False
    try:
        open(error.path, "rb").close()
    except OSError:
        return True
    return False


def _undeclared(name: str, sources: Sources) -> str:
    """The file is there, in a folder that nobody named."""
    inner = name.replace(".", "/")
    for path in sources.files:
        for end in (f"/{inner}/__init__.py", f"/{inner}.py"):
            folder = path.removesuffix(end)
            if folder != path and f"{folder}/" not in sources.bases:
                return (
                    f'{path} is there: "python": {{"paths": ["{folder}"]}} in plugin.json makes it importable'
                )
    return ""


def _foreign(name: str, sources: Sources) -> str:
    """The extension module is there, but made for another Python."""
    inner = name.replace(".", "/")
    for path in sources.files:
        if path.endswith(".so") and any(path.startswith(f"{base}{inner}.") for base in sources.bases):
            version = ".".join(map(str, sys.version_info[:2]))
            return f"{path} is for another Python than this {version}; install the package with this one"
    return ""
