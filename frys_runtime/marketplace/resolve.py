"""Which versions go together. The search is resolvelib's, the one that pip uses.

One version of each plugin is chosen. What is offered first is tried first, so who offers what is installed
first changes no more than has to be. What a plugin can do without is not brought in by it, but where it is
chosen for another reason, its version fits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, override

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver

from ..errors import DependencyError
from ..ranges import Range, Version
from ..registry.types import Needs

_MAX_ROUNDS: Final = 2000
_MAX_CHOSEN: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A version that could be chosen.

    Attributes:
        plugin: The plugin's id.
        version: The version.
        needs: What it depends on.
        origin: Whatever the caller wants to know of the one that is chosen.
    """

    plugin: str
    version: Version
    needs: Sequence[Needs]
    origin: object


@dataclass(frozen=True, slots=True, eq=False)
class _Need:
    plugin: str
    accepted: Range
    parent: Candidate | None


type Offers = Callable[[str], Iterable[Candidate]]


def resolve(wanted: Mapping[str, str], offers: Offers, why_not: Callable[[str], str]) -> dict[str, Candidate]:
    """Choose a version of each plugin that is wanted or needed.

    Args:
        wanted: Ranges by id.
        offers: The versions of a plugin that may be chosen, in the order in which to try them.
        why_not: Says, as the end of a sentence, what versions there are and why some may not be chosen.

    Raises:
        DependencyError: There is no choice that fits; with the ways that lead to the conflict.
    """
    provider = _Provider(offers)
    needs = [_Need(plugin, Range.parse(accepted), None) for plugin, accepted in wanted.items()]
    while True:
        chosen = _search(provider, needs, why_not)
        wrong = [
            (need, candidate)
            for candidate in chosen.values()
            for need in candidate.needs
            if need.optional and need.id in chosen and need.id != candidate.plugin
            if not Range.parse(need.range).matches(chosen[need.id].version)
            if (candidate, need.id) not in provider.minded
        ]
        if not wrong:
            return chosen
        provider.minded |= {(candidate, need.id) for need, candidate in wrong}


class _Provider(AbstractProvider[_Need, Candidate, str]):
    """What resolvelib asks while it searches.

    Attributes:
        minded: Optional needs that count, because what they are about is chosen anyway.
    """

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self._known: dict[str, list[Candidate]] = {}
        self._rest: dict[str, Iterator[Candidate]] = {}
        self.minded: set[tuple[Candidate, str]] = set()

    def _all(self, plugin: str) -> Iterator[Candidate]:
        """What is offered, asked for no sooner than it is looked at."""
        known = self._known.setdefault(plugin, [])
        rest = self._rest.setdefault(plugin, iter(self._offers(plugin)))
        at = 0
        while True:
            if at == len(known):
                following = next(rest, None)
                if following is None:
                    return
                known.append(following)
            yield known[at]
            at += 1

    @override
    def identify(self, requirement_or_candidate: _Need | Candidate) -> str:
        return requirement_or_candidate.plugin

    @override
    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, Candidate],
        candidates: Mapping[str, Iterator[Candidate]],
        information: Mapping[str, Iterator[object]],
        backtrack_causes: Sequence[object],
    ) -> tuple[bool, str]:
        """What caused a step back first."""
        causes = {cause.requirement.plugin for cause in backtrack_causes}  # type: ignore[attr-defined]
        return identifier not in causes, identifier

    @override
    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[_Need]],
        incompatibilities: Mapping[str, Iterator[Candidate]],
    ) -> Callable[[], Iterator[Candidate]]:
        needs, wrong = list(requirements[identifier]), set(incompatibilities[identifier])

        def matches() -> Iterator[Candidate]:
            for candidate in self._all(identifier):
                if candidate not in wrong and all(need.accepted.matches(candidate.version) for need in needs):
                    yield candidate

        return matches

    @override
    def is_satisfied_by(self, requirement: _Need, candidate: Candidate) -> bool:
        return requirement.accepted.matches(candidate.version)

    @override
    def get_dependencies(self, candidate: Candidate) -> list[_Need]:
        return [
            _Need(need.id, Range.parse(need.range), candidate)
            for need in candidate.needs
            if not need.optional or (candidate, need.id) in self.minded
        ]


def _search(
    provider: _Provider, needs: Sequence[_Need], why_not: Callable[[str], str]
) -> dict[str, Candidate]:
    resolver = Resolver(provider, BaseReporter[_Need, Candidate, str]())
    try:
        found = resolver.resolve(needs, _MAX_ROUNDS).mapping
    except ResolutionImpossible as error:
        causes = [cause.requirement for cause in error.causes]
        ways = dict.fromkeys(
            f"{f'{need.parent.plugin} {need.parent.version}' if need.parent else 'you'} "
            f"want{'s' if need.parent else ''} {need.plugin} {need.accepted}"
            for need in causes
        )
        need = causes[0]
        who = need.parent.plugin if need.parent is not None else "what is wanted"
        reason = f"no version fits: {', and '.join(ways)}; {why_not(need.plugin)}"
        raise DependencyError(who, need.plugin, reason) from None
    except ResolutionTooDeep:
        reason = f"no choice was found in {_MAX_ROUNDS} steps; name some versions more exactly"
        raise DependencyError("what is wanted", "others", reason) from None
    if len(found) > _MAX_CHOSEN:
        reason = f"{len(found)} plugins are needed in all; at most {_MAX_CHOSEN} are installed together"
        raise DependencyError("what is wanted", "others", reason)
    return dict(found)
