"""A Python plugin: its modules, its functions, its failures.

The same code serves a plugin in the main interpreter and in a subinterpreter, so it imports only what
loads there and only what is worth its memory in every plugin process.
"""

import errno
import sys
from types import CoroutineType, FunctionType

from . import interrupt
from .artifact import Artifact, Value
from .failures import BadArguments, BadArtifact, Failure, LimitReached, NoSuchFunction, PluginRaised
from .python_missing import hint
from .python_sources import Sources
from .python_traceback import describe, render
from .serve import Plugin

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from io import TextIOWrapper
    from types import FrameType
    from typing import Any

_FLAG_VARARGS, _FLAG_VARKEYWORDS = 0x04, 0x08
_MAX_REPR = 40


class Program(Plugin):
    """One loaded Python plugin.

    Attributes:
        deadline: Not looked at: nothing inside can stop Python code for certain, so the host does.
    """

    deadline = 0.0

    def __init__(self, artifact: Artifact) -> None:
        """Import the plugin.

        Raises:
            BadArtifact: It is not Python, imports what is not there, or offers no function.
            PluginRaised: Its own code failed while it was imported.
            LimitReached: It ran out of memory.
        """
        if artifact.entry not in artifact.files or not artifact.entry.endswith(".py"):
            raise BadArtifact(f"the entry {artifact.entry!r} is not a .py file of the plugin")
        sys.stdout, sys.stderr = self._streams = _text_output(1), _text_output(2)
        self._sources = Sources(artifact)
        self._loop: Callable[[Coroutine[Any, Any, Any]], Any] | None = None
        sys.dont_write_bytecode = True
        self._sources.install()
        try:
            __import__(self._sources.entry)
        except BaseException as error:  # a plugin may raise anything, SystemExit included
            raise self._load_failure(error, artifact) from None
        finally:
            self._flush()
        if not self.functions():
            raise BadArtifact(
                f"{artifact.entry} offers no function; a plugin needs a def at the top level of its entry "
                "file whose name does not begin with _, or one that __all__ names"
            )

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call a function; an ``async def`` is run to its end."""
        public = self._public(function)
        if public is None:
            raise NoSuchFunction(function, list(self.functions()))
        try:
            interrupt.begin(raises=True)
            result: Any = self._sources.namespace[function](*args)
            value: Value = self._wait_for(result) if type(result) is CoroutineType else result
            interrupt.end()
            return value
        except BaseException as error:  # a plugin may raise anything, SystemExit included
            interrupt.end()
            trace = error.__traceback__
            if type(error) is TypeError and trace is not None and trace.tb_next is None:
                # Nothing of the plugin ran: Python refused the call itself.
                raise BadArguments(f"{error}; it is {_signature(function, public)}") from None
            raise self._failure(error) from None
        finally:
            self._flush()

    def functions(self) -> dict[str, str]:
        """Name the functions that can be called, with their signatures."""
        found = {name: self._public(name) for name in list(self._sources.namespace) if type(name) is str}
        return {name: _signature(name, function) for name, function in found.items() if function is not None}

    def unload(self) -> None:
        """Forget the plugin's modules and give the standard streams back."""
        self._sources.uninstall()
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def _public(self, name: str) -> FunctionType | None:
        """Look up what may be called from outside.

        Defined in the entry file, or by any module of the plugin if ``__all__`` of the entry names it. What
        functools.cache or functools.wraps made of a function is one, too.
        """
        function = _function_in(self._sources.namespace.get(name))
        if function is None or name.startswith("_"):
            return None
        listed = self._sources.namespace.get("__all__")
        if type(listed) is list or type(listed) is tuple:
            return function if name in listed and self._sources.owns(function.__module__) else None
        return function if function.__module__ == self._sources.entry else None

    def _wait_for(self, coroutine: "Coroutine[Any, Any, Any]") -> "Any":
        if "asyncio" not in sys.modules:
            return _drive(coroutine)
        if self._loop is None:
            from .python_loop import make_runner

            self._loop = make_runner()
        return self._loop(coroutine)

    def _load_failure(self, error: BaseException, artifact: Artifact) -> Failure:
        if isinstance(error, SyntaxError) and error.filename:
            file = error.filename.removeprefix(f"{artifact.root}/")
            if file in artifact.files:
                place = f"{file}, line {error.lineno}" if error.lineno else file
                return BadArtifact(f"{place}: {error.msg}", self._render(error))
        if isinstance(error, ImportError):
            return BadArtifact(
                f"an import failed: {describe(error)}{hint(error, self._sources, late=False)}",
                self._render(error),
            )
        return self._failure(error)

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, MemoryError):
            return LimitReached("memory", "the plugin ran out of memory (Python raised MemoryError)")
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            return LimitReached("open_files", "the plugin has too many open files (EMFILE)")
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            return LimitReached("file_size", "the plugin's file grew too large (EFBIG)")
        message = describe(error)
        if isinstance(error, ImportError):
            message += hint(error, self._sources, late=True)
        return PluginRaised(message, self._render(error))

    def _render(self, error: BaseException) -> str:
        try:
            return render(error, self._sources.line, _is_ours)
        except BaseException as second:  # the plugin's classes take part in it
            return f"(no traceback: {type(second).__name__} while it was written)"

    def _flush(self) -> None:
        for stream in self._streams:
            try:
                stream.flush()
            except (OSError, ValueError):
                # The host has closed the pipe, or the plugin has; the output is lost, the result is not.
                continue


def _is_ours(frame: "FrameType") -> bool:
    module = frame.f_globals.get("__name__")
    ours = type(module) is str and module.startswith(f"{__package__}.")
    return ours or frame.f_code.co_filename.startswith("<frozen importlib")


def _text_output(fd: int) -> "TextIOWrapper":
    """Make a standard stream that writes whole lines at once, in UTF-8, whatever the locale was.

    The interpreter's own stream was made in the fork server, for another file.
    """
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _drive(coroutine: "Coroutine[Any, Any, Any]") -> "Any":
    """Run a coroutine of a plugin that does not use asyncio; it can only give way, never wait."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError(
        "it awaits something that nothing here can complete; import asyncio to await its things"
    )


def _function_in(target: object) -> FunctionType | None:
    """Give a function itself, or the one that functools.cache or another class has wrapped."""
    if type(target) is FunctionType:
        return target
    try:
        inner = vars(target).get("__wrapped__")
    except Exception:  # no attributes, or the plugin's own __dict__
        return None
    return inner if type(inner) is FunctionType else None


def _signature(name: str, function: FunctionType) -> str:
    """Write a function's parameters for people; importing inspect would cost too much."""
    code = function.__code__
    count, only = code.co_argcount, code.co_kwonlyargcount
    ends = zip(reversed(code.co_varnames[:count]), reversed(function.__defaults__ or ()), strict=False)
    defaults = dict(ends) | (function.__kwdefaults__ or {})
    hints = _hints(function)

    def parameter(variable: str) -> str:
        text = f"{variable}: {hints[variable]}" if variable in hints else variable
        return f"{text} = {_short(defaults[variable])}" if variable in defaults else text

    parts = [parameter(variable) for variable in code.co_varnames[:count]]
    if code.co_flags & _FLAG_VARARGS:
        parts.append(f"*{code.co_varnames[count + only]}")
    elif only:
        parts.append("*")
    parts += [parameter(variable) for variable in code.co_varnames[count : count + only]]
    if code.co_flags & _FLAG_VARKEYWORDS:
        parts.append(f"**{code.co_varnames[count + only + bool(code.co_flags & _FLAG_VARARGS)]}")
    return f"{name}({', '.join(parts)})" + (f" -> {hints['return']}" if "return" in hints else "")


def _hints(function: FunctionType) -> dict[str, str]:
    try:
        return {name: _hint(value) for name, value in function.__annotations__.items()}
    except Exception:  # from Python 3.14 on this runs the plugin's code
        return {}


def _hint(value: object) -> str:
    if isinstance(value, str):
        return value[:_MAX_REPR]
    return value.__qualname__ if type(value) is type else _short(value)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # the plugin's own __repr__
        return "..."
    return text if len(text) <= _MAX_REPR else "..."
