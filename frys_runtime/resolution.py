"""Which versions of which other plugins a plugin needs, found together, and the order to load them in.

The search is resolvelib's, the one that pip uses. One version of each plugin is chosen; what is loaded
already stays as it is, so for such a plugin there is no other choice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, override

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep
from resolvelib.resolvers import Resolution

from .dependencies import Loaded
from .errors import DependencyError
from .metadata import Dependency, Metadata
from .ranges import Range, Version

_MAX_ROUNDS: Final = 2000
_MAX_CHAINS: Final = 10
_MAX_CHOSEN: Final = 256


class Available(Protocol):
    """A plugin that could be loaded."""

    @property
    def path(self) -> str:
        """Where it is; whatever the caller makes of that."""

    @property
    def metadata(self) -> Metadata:
        """What it says about itself."""


class Chosen(NamedTuple):
    """A plugin that is to be loaded.

    Attributes:
        path: Where it is.
        metadata: What it says about itself.
    """

    path: str
    metadata: Metadata


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """A version of a plugin; its path is empty when it is loaded, or the one that the search is for."""

    metadata: Metadata
    path: str
    version: Version


@dataclass(frozen=True, slots=True, eq=False)
class _Need:
    """What a version needs."""

    plugin_id: str
    accepted: Range
    parent: _Choice | None
    optional: bool = False


def resolve(root: Metadata, loaded: Loaded, candidates: Callable[[str], Iterable[Available]]) -> list[Chosen]:
    """Find what a plugin needs beside what is loaded.

    Args:
        root: The plugin's metadata; its ``id`` is the one under which it is to be loaded.
        loaded: The versions of each plugin that are loaded, by id.
        candidates: The versions of a plugin that could be loaded. This may read files.

    Returns:
        What to load, each after those that it needs itself. What is optional and nowhere is left out.

    Raises:
        DependencyError: Something is missing, needs itself over others, or no version fits all who need it;
            with the ways that lead there.
    """
    ignored: set[tuple[str, str]] = set()
    while True:
        provider = _Provider(root, loaded, candidates, ignored)
        chosen = _search(provider, root)
        ring = _circle(provider, root, chosen)
        if not ring:
            return [
                Chosen(choice.path, choice.metadata)
                for choice in _in_order(provider, root, chosen)
                if choice.path
            ]
        optional = next((need for need in ring if need.optional), None)
        if optional is None:
            line = " > ".join(
                [_name(ring[0].parent), *(f"{need.plugin_id} {need.accepted}" for need in ring)]
            )
            raise DependencyError(
                root.id,
                ring[0].plugin_id,
                f"they need each other, so none can be loaded first: {line}; make one of these optional",
                (line,),
            )
        assert optional.parent is not None
        ignored.add((optional.parent.metadata.id, optional.plugin_id))


class _Provider(AbstractProvider[_Need, _Choice, str]):
    """What resolvelib asks while it searches."""

    def __init__(
        self,
        root: Metadata,
        loaded: Loaded,
        candidates: Callable[[str], Iterable[Available]],
        ignored: set[tuple[str, str]],
    ) -> None:
        self._loaded, self._candidates, self._ignored = loaded, candidates, ignored
        self.root = _Choice(root, "", Version.parse(root.version))
        self._known: dict[str, list[_Choice]] = {root.id: [self.root]}
        self._needs: dict[_Choice, list[_Need]] = {}
        self.why: dict[_Choice, _Need] = {}

    def choices(self, plugin_id: str) -> list[_Choice]:
        """Every version of a plugin that may be chosen, the best first."""
        if plugin_id not in self._known:
            there = self._loaded.get(plugin_id)
            found = (
                [_Choice(metadata, "", Version.parse(metadata.version)) for metadata in there]
                if there
                else [
                    _Choice(one.metadata, one.path, Version.parse(one.metadata.version))
                    for one in self._candidates(plugin_id)
                ]
            )
            self._known[plugin_id] = sorted(found, key=lambda choice: choice.version, reverse=True)
        return self._known[plugin_id]

    def needs(self, choice: _Choice) -> list[_Need]:
        """What a version needs; what is loaded has it."""
        if choice not in self._needs:
            is_there = not choice.path and choice is not self.root
            wanted = () if is_there else choice.metadata.dependencies
            self._needs[choice] = [
                _Need(needed.plugin_id, Range.parse(needed.version_range), choice, needed.optional)
                for needed in wanted
                if self._counts(choice, needed)
            ]
        return self._needs[choice]

    def _counts(self, choice: _Choice, needed: Dependency) -> bool:
        if not needed.optional:
            return True
        if (choice.metadata.id, needed.plugin_id) in self._ignored:
            return False
        accepted = Range.parse(needed.version_range)
        return needed.plugin_id in self._loaded or any(
            accepted.matches(other.version) for other in self.choices(needed.plugin_id)
        )

    @override
    def identify(self, requirement_or_candidate: _Need | _Choice) -> str:
        if isinstance(requirement_or_candidate, _Need):
            return requirement_or_candidate.plugin_id
        return requirement_or_candidate.metadata.id

    @override
    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, _Choice],
        candidates: Mapping[str, Iterator[_Choice]],
        information: Mapping[str, Iterator[object]],
        backtrack_causes: Sequence[object],
    ) -> tuple[bool, int, str]:
        """What caused a step back first, then what has the fewest choices."""
        causes = {cause.requirement.plugin_id for cause in backtrack_causes}  # type: ignore[attr-defined]
        return identifier not in causes, len(self.choices(identifier)), identifier

    @override
    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[_Need]],
        incompatibilities: Mapping[str, Iterator[_Choice]],
    ) -> list[_Choice]:
        needs, wrong = list(requirements[identifier]), set(incompatibilities[identifier])
        return [
            choice
            for choice in self.choices(identifier)
            if choice not in wrong and all(need.accepted.matches(choice.version) for need in needs)
        ]

    @override
    def is_satisfied_by(self, requirement: _Need, candidate: _Choice) -> bool:
        return requirement.accepted.matches(candidate.version)

    @override
    def get_dependencies(self, candidate: _Choice) -> list[_Need]:
        needs = self.needs(candidate)
        for need in needs:
            for choice in self.choices(need.plugin_id):
                self.why.setdefault(choice, need)
        return needs

    def chain(self, need: _Need) -> str:
        """The way from the plugin that the search is for to something that is needed."""
        steps, parent = [f"{need.plugin_id} {need.accepted}"], need.parent
        while parent is not None and parent is not self.root and len(steps) < 100:
            above = self.why[parent]
            steps.append(f"{parent.metadata.id} {above.accepted}")
            parent = above.parent
        return " > ".join([_name(self.root), *reversed(steps)])


def _name(choice: _Choice | None) -> str:
    return f"{choice.metadata.id} {choice.version}" if choice is not None else ""


def _search(provider: _Provider, root: Metadata) -> Mapping[str, _Choice]:
    # Resolver.resolve would go on to draw a graph of it, and recurse without an end where plugins that were
    # chosen and then not needed any more need each other.
    search = Resolution(provider, BaseReporter[_Need, _Choice, str]())
    try:
        found = search.resolve([_Need(root.id, Range.parse(f"={root.version}"), None)], _MAX_ROUNDS)
    except ResolutionImpossible as error:
        causes = [cause.requirement for cause in error.causes if cause.parent is not None]
        raise _explain(provider, root, causes) from None
    except ResolutionTooDeep:
        reason = f"no choice of versions was found in {_MAX_ROUNDS} steps; load some of them first"
        raise DependencyError(root.id, "others", reason) from None
    if len(found.mapping) > _MAX_CHOSEN:
        reason = f"it needs {len(found.mapping) - 1} others, directly and over others; at most {_MAX_CHOSEN}"
        raise DependencyError(root.id, "others", reason)
    return found.mapping


def _explain(provider: _Provider, root: Metadata, causes: list[_Need]) -> DependencyError:
    need = causes[0]
    chains = tuple(dict.fromkeys(provider.chain(cause) for cause in causes))[:_MAX_CHAINS]
    there = provider.choices(need.plugin_id)
    who = need.parent.metadata.id if need.parent is not None else root.id
    if not there:
        reason = (
            "no plugin of that id is loaded, and none is in the plugin paths "
            f"({'; '.join(chains)}); load it first, or add the folder that holds it by add_plugin_path"
        )
    else:
        versions = ", ".join(f"{one.version}{'' if one.path else ' (loaded)'}" for one in there)
        reason = f"no version fits: {'; '.join(chains)}; there are {versions}"
    return DependencyError(who, need.plugin_id, reason, chains)


def _circle(provider: _Provider, root: Metadata, chosen: Mapping[str, _Choice]) -> list[_Need]:
    """Needs that lead back to where they begin; empty when there is no such ring."""
    done: set[str] = set()

    def visit(plugin_id: str, way: list[_Need]) -> list[_Need]:
        for number, need in enumerate(way):
            if need.parent is not None and need.parent.metadata.id == plugin_id:
                return way[number:]
        if plugin_id not in done:
            for need in provider.needs(chosen[plugin_id]):
                if ring := visit(need.plugin_id, [*way, need]):
                    return ring
            done.add(plugin_id)
        return []

    return visit(root.id, [])


def _in_order(provider: _Provider, root: Metadata, chosen: Mapping[str, _Choice]) -> list[_Choice]:
    """What was chosen, each behind what it needs."""
    ordered: dict[str, _Choice] = {}

    def visit(plugin_id: str) -> None:
        if plugin_id not in ordered:
            for need in provider.needs(chosen[plugin_id]):
                visit(need.plugin_id)
            ordered[plugin_id] = chosen[plugin_id]

    visit(root.id)
    return list(ordered.values())
