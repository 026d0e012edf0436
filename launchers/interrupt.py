"""Ending a call from outside without ending the process: the host sends SIGUSR1 when a caller has given up.

The handler only takes a note and wakes the engine; how a call ends is the engine's affair. JavaScript's
engine looks at the note every few thousand steps. In the main interpreter Python code gets an exception,
which it may catch, as it may catch that of Ctrl-C; whoever goes on then is killed a moment later. Where
no engine can be stopped (native code, WebAssembly, a subinterpreter), the host does not send it.
"""

import _signal  # type: ignore[import-not-found]  # the module signal would cost memory in every plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Cancelled(KeyboardInterrupt):
    """The caller gave the call up; the kind of exception that libraries let pass, and clean up for."""


class _Note:
    wanted = False
    raises = False


def listen(wake: "Callable[[], None] | None" = None) -> None:
    """Take note of the signal from now on; called in the fork server, for all its children.

    Args:
        wake: Called when it comes, to end a sleep; must be harmless at any moment.
    """

    def handler(_number: int, _frame: object) -> None:
        _Note.wanted = True
        if wake is not None:
            wake()
        if _Note.raises:
            _Note.raises = False
            raise Cancelled("the caller gave the call up")

    _signal.signal(_signal.SIGUSR1, handler)


def begin(*, raises: bool = False) -> None:
    """A call begins; what came before was not for this one.

    Args:
        raises: The signal is to raise :class:`Cancelled` in whatever runs then.
    """
    _Note.wanted = False
    _Note.raises = raises


def end() -> None:
    """The call is over, or something begins that must not be torn apart; the signal only leaves its note."""
    _Note.raises = False


def is_wanted() -> bool:
    """Whether the call that runs is to end."""
    return _Note.wanted


def hold() -> bool:
    """Begin something that must not be torn apart; give the answer to :func:`go_on` afterwards."""
    raises, _Note.raises = _Note.raises, False
    return raises


def go_on(raises: bool) -> None:
    """End it; what came meanwhile is raised now.

    Raises:
        Cancelled: The call is to end.
    """
    if raises and _Note.wanted:
        raise Cancelled("the caller gave the call up")
    _Note.raises = raises
