"""A pytest plugin for authors of plugins: their tests call a plugin in its jail as they would a function.

    def test_it(frys_plugin):
        assert frys_plugin("words.py").call("count", "to be") == {"to": 1, "be": 1}

pytest finds it by itself once Frys is installed (the entry point ``pytest11``), and nothing else imports it.
An event loop runs in a thread of its own, so tests need not know of asyncio. Every worker of pytest-xdist has
its own manager. docs/testing-plugins.md tells the rest.
"""

import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self

import pytest

from .config import IsolationLevel
from .errors import PluginError, PluginNotFound, SandboxError

if TYPE_CHECKING:
    from .config import ResourceUsage
    from .manager import PluginManager
    from .messages import MessageValue
    from .plugin import Plugin

type LoadPlugin = Callable[..., LoadedPlugin]
"""What the fixture ``frys_plugin`` is: a path, and what ``PluginManager.load_plugin`` takes beside it."""


class Manager:
    """A plugin manager for code without asyncio; close it, or use it as a context manager.

    Args:
        settings: Those of :class:`PluginManager`.

    Attributes:
        manager: The manager itself, to be used by :meth:`run`.

    Raises:
        ConfigError: A setting is wrong.
        InitializationFailed: The machine does not let it work.
    """

    def __init__(self, **settings: Any) -> None:
        # Every run of pytest loads this module, and most do not need what is imported here.
        import asyncio

        from .manager import PluginManager

        self.manager: PluginManager = PluginManager(**settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="frys", daemon=True)
        self._thread.start()
        try:
            self.run(self.manager.__aenter__())
        except BaseException:
            self._end()
            raise

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the manager's event loop and wait for its result.

        Raises:
            RuntimeError: It is called from that event loop, in which nobody may wait.
        """
        __tracebackhide__ = True
        from asyncio import run_coroutine_threadsafe

        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("it would wait for the event loop that it is called from; await its `manager`")
        future = run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # also for who has interrupted the wait
            raise

    def load(self, path: str | os.PathLike[str], **options: Any) -> "LoadedPlugin":
        """Load a plugin; arguments and errors are those of :meth:`PluginManager.load_plugin`."""
        __tracebackhide__ = True
        plugin_id = self.run(self.manager.load_plugin(path, **options))
        return LoadedPlugin(self, self.manager.plugin(plugin_id))

    def close(self) -> None:
        """End every plugin and the event loop; returns when nothing of them is left. Safe to call twice."""
        if self._loop.is_closed():
            return
        try:
            self.run(self.manager.close())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LoadedPlugin:
    """A plugin in its jail, for code without asyncio.

    Attributes:
        plugin: The plugin for code with asyncio, and all that is known about it.
    """

    def __init__(self, manager: Manager, plugin: "Plugin") -> None:
        self._manager = manager
        self.plugin = plugin

    @property
    def id(self) -> str:
        """The id under which it is loaded."""
        return self.plugin.id

    @property
    def functions(self) -> dict[str, str]:
        """Callable functions with signatures for people."""
        return self.plugin.functions

    def call(self, function: str, *args: "MessageValue", timeout_ms: int | None = None) -> Any:
        """Call a function; results and errors are those of :meth:`PluginManager.execute_plugin`."""
        __tracebackhide__ = True
        return self._manager.run(self.plugin.call(function, *args, timeout_ms=timeout_ms))

    def resource_usage(self) -> "ResourceUsage":
        """What it uses now, read from the kernel."""
        return self.plugin.resource_usage()

    def unload(self) -> None:
        """End it; nothing happens when it is not loaded any more."""
        try:
            self._manager.run(self.plugin.unload())
        except PluginNotFound:
            return

    def __repr__(self) -> str:
        return f"<LoadedPlugin {self.id}>"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, which can stand in the configuration file as well."""
    group = parser.getgroup("frys", "plugins in Frys")
    group.addoption(
        "--frys-isolation", choices=[*IsolationLevel], help="isolation level of the plugins under test"
    )
    group.addoption("--frys-policy", metavar="FILE", help="policy file for the plugins under test")
    parser.addini("frys_isolation", "isolation level of the plugins under test", default="")
    parser.addini("frys_policy", "policy file for them, relative to this file", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse wrong options before the first test; what they say is used in the workers."""
    _settings(config)


def _settings(config: pytest.Config) -> dict[str, Any]:
    level, policy = config.getoption("--frys-isolation"), config.getoption("--frys-policy")
    folder = config.invocation_params.dir
    if level is None and policy is None:
        level, policy = config.getini("frys_isolation") or None, config.getini("frys_policy") or None
        folder = config.inipath.parent if config.inipath is not None else folder
    if level is not None and policy is not None:
        raise pytest.UsageError("a Frys policy names its isolation level itself; give one of the two")
    if level is not None and level not in tuple(IsolationLevel):
        raise pytest.UsageError(f"frys_isolation is {level!r}; it must be one of {', '.join(IsolationLevel)}")
    if policy is None:
        return {} if level is None else {"isolation": level}
    if not (folder / policy).is_file():
        raise pytest.UsageError(f"there is no policy file {folder / policy} for Frys")
    return {"policy": folder / policy}


@pytest.fixture(scope="session")
def frys_settings(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Settings of :class:`PluginManager` for all tests; override it in a conftest.py to add some."""
    return _settings(pytestconfig)


@pytest.fixture(scope="session")
def frys_manager(frys_settings: dict[str, Any]) -> Iterator[Manager]:
    """One plugin manager for all tests of this process, without asyncio."""
    try:
        manager = Manager(**frys_settings)
    except PluginError as error:
        pytest.fail(str(error), pytrace=False)
    with manager:
        yield manager


@pytest.fixture
def frys_plugin(request: pytest.FixtureRequest, frys_manager: Manager) -> Iterator[LoadPlugin]:
    """Loads plugins for one test: ``frys_plugin("words.py").call("count", "a b")``.

    A relative path begins at the test's own file. Where the machine cannot hold what the level or the policy
    requires, the test fails with one sentence that says what is missing.
    """
    loaded: list[LoadedPlugin] = []

    def load(path: str | os.PathLike[str], **options: Any) -> LoadedPlugin:
        __tracebackhide__ = True
        beside = request.path.parent / path
        try:
            plugin = frys_manager.load(beside if beside.exists() else path, **options)
        except SandboxError as error:
            pytest.fail(str(error), pytrace=False)
        loaded.append(plugin)
        return plugin

    yield load
    for plugin in reversed(loaded):
        plugin.unload()


@pytest.fixture
def frys_async_manager(frys_settings: dict[str, Any]) -> "PluginManager":
    """A manager of the test's own for a coroutine: ``async with frys_async_manager as manager: ...``."""
    from .manager import PluginManager

    return PluginManager(**frys_settings)
