"""Whether what is installed is what is locked, and whether that fits together."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InvalidFormat, LoadFailed, PluginError
from ..isolation import judge_signatures
from ..package import open_package
from ..policy import PolicyFile
from ..ranges import Range
from ..signing import look_beside
from .lockfile import Lock
from .store import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        plugin: The plugin.
        problem: What is wrong, and what to do.
    """

    plugin: str
    problem: str

    def __str__(self) -> str:
        return f"{self.plugin}: {self.problem}"


def unfit(lock: Lock) -> Iterator[Finding]:
    """What of a lock does not fit together: a request, or a need, that no locked version meets."""
    for plugin, wanted in lock.requested.items():
        there = lock.plugins.get(plugin)
        if there is None:
            yield Finding(plugin, f"{wanted} is requested, and nothing is locked; install it again")
        elif not Range.parse(wanted).matches(there.number):
            yield Finding(plugin, f"{wanted} is requested, and {there.version} is locked; upgrade it")
    for plugin, entry in lock.plugins.items():
        for need in entry.dependencies:
            there = lock.plugins.get(need.id)
            if there is None and not need.optional:
                yield Finding(plugin, f"it needs {need.id} {need.range}, which is not installed")
            elif there is not None and not Range.parse(need.range).matches(there.number):
                yield Finding(
                    plugin, f"it needs {need.id} {need.range}, and {there.version} is installed; upgrade them"
                )


def examine(store: Store, lock: Lock, policy: PolicyFile | None) -> Iterator[Finding]:
    """Read every byte that is installed, and hold it against the lock, and signatures against the policy."""
    for plugin, entry in lock.plugins.items():
        wrong = store.wrong_with(plugin, entry)
        if wrong:
            yield Finding(plugin, f"{wrong}; `frys install` fetches it again, as it is locked")
            continue
        if policy is None:
            continue
        path = str(store.path(plugin, entry))
        try:
            signed = look_beside(open_package(path), path)
            judge_signatures(policy.policy(plugin).signatures, signed, f"{plugin} {entry.version}")
        except (LoadFailed, InvalidFormat, PluginError) as error:
            yield Finding(plugin, str(error))
