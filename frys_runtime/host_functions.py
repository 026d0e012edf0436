"""Functions of the host program that plugins may call."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from .interfaces import Function, Types, check, check_arguments
from .messages import MessageValue, Refused, check_value


class HostFunction:
    """A function of the host program that plugins may be granted.

    Args:
        name: How plugins call it.
        function: It, plain or async; a plain one runs in the event loop and must be quick.
        params: The types of its parameters, as in a plugin.json; ``None`` to take any values.
        returns: The type of its result.

    Raises:
        ConfigError: A type makes no sense.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., MessageValue | Awaitable[MessageValue]],
        params: Sequence[str] | None,
        returns: str,
    ) -> None:
        types = Types({}, f"host function {name}")
        self.name, self._function = name, function
        self._params = None if params is None else tuple(types.parse(text, "params") for text in params)
        self._returns = types.parse(returns, "returns")
        self.declared = Function(self._params or (), self._returns)

    @property
    def types(self) -> list[str] | None:
        """The types of its parameters; ``None`` where it takes any values."""
        return None if self._params is None else [kind.text for kind in self._params]

    async def __call__(self, args: list[MessageValue]) -> MessageValue:
        """Call it.

        Raises:
            Refused: The arguments have other types, or it failed.
        """
        try:
            if self._params is not None:
                check_arguments(self._params, args, self.name)
        except TypeError as error:
            raise Refused("invalid", str(error)) from None
        result = self._function(*args)
        value: Any = await result if isawaitable(result) else result
        check_value(value, f"the result of {self.name}")
        check(self._returns, value, f"the result of {self.name}")
        return value  # type: ignore[no-any-return]  # check_value has just made sure
