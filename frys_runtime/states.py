"""Where a plugin is in its life, and where it may go from there."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class PluginState(StrEnum):
    """Where a plugin is in its life; docs/supervision.md has the same table as :data:`TRANSITIONS`."""

    LOADING = "loading"
    """It is being loaded for the first time."""
    READY = "ready"
    """A process of it is there and takes calls."""
    STARTING = "starting"
    """No process of it is there; one is being started, or waits until its back-off is over. Calls wait."""
    IDLE = "idle"
    """No process of it is there, because nobody needed one; the next call starts one."""
    SUSPENDED = "suspended"
    """Its processes are frozen. Calls wait until it is resumed, or until their deadline."""
    DRAINING = "draining"
    """It takes no new calls; what it had is being finished."""
    QUARANTINED = "quarantined"
    """It crashed too often. Calls fail at once, until its quarantine is over or somebody resumes it."""
    DISABLED = "disabled"
    """It tried what is forbidden too often and takes no calls; unload and load it to have it back."""
    UNLOADED = "unloaded"
    """It is gone."""


_S = PluginState
_ANY_END: Final = (_S.DRAINING, _S.UNLOADED)

TRANSITIONS: Final[Mapping[PluginState, frozenset[PluginState]]] = {
    _S.LOADING: frozenset({_S.READY, _S.IDLE, _S.DISABLED, _S.UNLOADED}),
    _S.READY: frozenset({_S.STARTING, _S.IDLE, _S.SUSPENDED, _S.QUARANTINED, _S.DISABLED, *_ANY_END}),
    _S.STARTING: frozenset({_S.READY, _S.IDLE, _S.SUSPENDED, _S.QUARANTINED, _S.DISABLED, *_ANY_END}),
    _S.IDLE: frozenset({_S.STARTING, _S.SUSPENDED, *_ANY_END}),
    _S.SUSPENDED: frozenset({_S.READY, _S.STARTING, _S.IDLE, _S.DISABLED, *_ANY_END}),
    _S.QUARANTINED: frozenset({_S.STARTING, *_ANY_END}),
    _S.DISABLED: frozenset(_ANY_END),
    _S.DRAINING: frozenset({_S.UNLOADED}),
    _S.UNLOADED: frozenset(),
}
"""From each state, the states that may follow."""
