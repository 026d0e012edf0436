"""What the Python code of `frys bindgen` stands on: a loaded plugin, called by declared types.

The plugin's results are checked, too: what comes from it is as untrusted as it is.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, override

from .errors import ExecutionFailed
from .interfaces import Interface, check, check_arguments
from .manager import PluginManager
from .messages import check_value
from .metadata import Format, Metadata, convert, interface


class PluginClient:
    """A plugin as an object with typed methods; a subclass says which.

    Args:
        manager: Where the plugin is loaded.
        plugin_id: Under which id.

    Attributes:
        declared: ``exports``, ``types`` and ``events`` as a plugin.json has them.
    """

    declared: ClassVar[Mapping[str, Any]] = {}
    _interface: ClassVar[Interface] = Interface()

    def __init__(self, manager: PluginManager, plugin_id: str) -> None:
        self._manager, self._plugin_id = manager, plugin_id

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        whole = {"id": "client", "version": "0.0.0", "format": Format.PYTHON, **cls.declared}
        cls._interface = interface(convert(whole, Metadata, cls.__name__, ""), cls.__name__)

    async def _call(self, function: str, *args: object, timeout_ms: int | None = None) -> Any:
        """Call a function of the plugin.

        Raises:
            TypeError: An argument is not of its declared type; the plugin is told nothing.
            ExecutionFailed: The function failed, or its result is not of its declared type.
            PluginError: As :meth:`frys_runtime.PluginManager.execute_plugin` raises it.
        """
        declared = self._interface.functions[function]
        values: list[Any] = list(args)
        check_value(values, "args")
        check_arguments(declared.params, values, f"{self._plugin_id}.{function}")
        result = await self._manager.execute_plugin(self._plugin_id, function, *values, timeout_ms=timeout_ms)
        try:
            check(declared.returns, result, "its result")
        except TypeError as error:
            raise ExecutionFailed(self._plugin_id, function, str(error)) from None
        return result

    async def _events(self, event_type: str) -> AsyncIterator[Any]:
        """The data of the plugin's events of a type, from now on; it was checked when they were published."""
        stream = self._manager.communicator.subscribe(event_type)
        async for event in stream:
            if event.source == self._plugin_id and event.event_type == event_type:
                yield event.data
