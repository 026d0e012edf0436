"""From what is wanted to what will be installed: versions chosen, packages fetched, checked and put in place.

All of it blocks and runs in a thread, while the folder belongs to this change alone.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..errors import LoadFailed, RegistryError
from ..isolation import judge_signatures
from ..metadata import Metadata
from ..package import Package, open_package
from ..policy import PolicyFile
from ..ranges import Version
from ..registry.attacks import accuse, plain
from ..registry.client import PluginRegistry
from ..registry.oci import Pulled, Reference, pull
from ..registry.repository import View
from ..registry.transport import Session
from ..registry.types import Index, Kind, Needs, Progress, Release, signers_of
from ..signing import look_beside
from .lockfile import Lock, Locked
from .resolve import Candidate, resolve
from .store import Transaction

_HOUR: Final = 3600


class Rules(NamedTuple):
    """What has to hold of everything that is installed.

    Attributes:
        policy: Whose signatures a plugin must have; ``None`` asks for none.
        min_age: Seconds since a version was published.
    """

    policy: PolicyFile | None
    min_age: float


class Sources:
    """The registries, as one change sees them: each in one state."""

    def __init__(self, registries: Sequence[PluginRegistry], lock: Lock, session: Session) -> None:
        self._registries = {registry.url: registry for registry in registries}
        self._lock, self._session = lock, session
        self._views: dict[str, View] = {}

    def view(self, url: str) -> View:
        """One registry.

        Raises:
            RegistryError: It is not among those that are configured.
        """
        if url not in self._views:
            registry = self._registries.get(url)
            if registry is None:
                known = ", ".join(self._registries) or "none"
                raise RegistryError(
                    url, f"something installed came from it, and it is not configured; configured: {known}"
                )
            repository = registry.repository(pinned=self._lock.registries.get(url))
            self._views[url] = repository.open(self._session, registry.progress)
        return self._views[url]

    def find(self, plugin: str, source: str = "") -> tuple[View, Index] | None:
        """Where a plugin comes from: from where it came before, else the first registry that has it."""
        for url in [source] if source else self._registries:
            view = self.view(url)
            index = view.index(plugin)
            if index is not None:
                return view, index
        return None

    def note(self, folder: Path, *locks: Lock) -> None:
        """Have the caches know what is installed, so that what is needed of it offline stays there."""
        for url, registry in self._registries.items():
            ids = {plugin for lock in locks for plugin, entry in lock.plugins.items() if entry.source == url}
            registry.cache.note_installed(url, folder, ids)

    def roots(self) -> dict[str, str]:
        """The root of each registry that was asked."""
        return {url: view.root for url, view in self._views.items() if view.root}


class Planner:
    """Makes the next state of a folder."""

    def __init__(
        self, transaction: Transaction, registries: Sequence[PluginRegistry], session: Session, rules: Rules
    ) -> None:
        self._transaction, self._rules, self._session = transaction, rules, session
        self._before = transaction.before
        self._sources = Sources(registries, self._before, session)
        self._sources.note(transaction.store.folder, self._before)
        self._progress = registries[0].progress
        self._cache = registries[0].cache
        self._pulled: dict[str, tuple[Pulled, Package]] = {}
        self._only = ""
        self._accepts: Callable[[Release], bool] | None = None

    def plan(self, requested: Mapping[str, str], loose: Collection[str] = ()) -> Lock:
        """Choose versions, and put in place what is not there yet.

        Args:
            requested: Ranges by id.
            loose: Plugins that are to be as new as may be, instead of as they are.
        """
        chosen = resolve(requested, lambda plugin: self._offers(plugin, loose), self._why_not)
        plugins = {plugin: self._place(candidate) for plugin, candidate in chosen.items()}
        lock = Lock(requested=dict(requested), plugins=plugins).rolled_back_before(self._before)
        self._sources.note(self._transaction.store.folder, self._before, lock)
        for plugin in requested:
            lock.needed(plugin)  # what needs itself cannot be loaded, and is not installed
        used = {entry.source for entry in plugins.values()}
        roots = {**self._before.registries, **self._sources.roots()}
        return msgspec.structs.replace(
            lock, registries={url: root for url, root in roots.items() if url in used}
        )

    def update(self, plugin: str, accepts: Callable[[Release], bool]) -> Lock:
        """Bring one plugin to the newest version that fits everything else, which stays as it is.

        Args:
            plugin: Its id.
            accepts: Says of a newer version whether it may be chosen.
        """
        self._only, self._accepts = plugin, accepts
        after = self.plan(
            {**self._before.requested, plugin: self._before.requested.get(plugin, "*")}, {plugin}
        )
        return msgspec.structs.replace(
            after,
            requested=self._before.requested,
            registries={**self._before.registries, **after.registries},
            plugins={**self._before.plugins, plugin: after.plugins[plugin]},
        )

    # Which versions may be chosen.

    def _offers(self, plugin: str, loose: Collection[str]) -> Iterator[Candidate]:
        if plugin in self._pulled:
            pulled, package = self._pulled[plugin]
            needs = _needs(package.metadata)
            yield Candidate(plugin, Version.parse(package.metadata.version), needs, pulled)
            return
        there = self._before.plugins.get(plugin)
        kept = Candidate(plugin, there.number, there.dependencies, there) if there is not None else None
        if kept is not None and (plugin not in loose or (there is not None and there.is_oci)):
            yield kept
        if (there is not None and there.is_oci) or (self._only and plugin != self._only):
            return
        found = self._sources.find(plugin, there.source if there is not None else "")
        if found is None:
            return
        view, index = found
        still_there = any(there is not None and one.version == there.version for one in index.versions)
        for release in sorted(index.versions, key=lambda one: one.number, reverse=True):
            if there is not None and release.version == there.version:
                _check_same(plugin, there, release, view.registry)
                if plugin in loose and kept is not None:
                    yield kept
            elif not passed_by(release, self._rules.min_age) and self._takes(there, release):
                yield Candidate(plugin, release.number, release.dependencies, (view, release))

        if kept is not None and plugin == self._only and not still_there:
            yield kept

    def _takes(self, there: Locked | None, release: Release) -> bool:
        if self._accepts is None or there is None:
            return True
        return release.number > there.number and self._accepts(release)

    def _why_not(self, plugin: str) -> str:
        there = self._before.plugins.get(plugin)
        found = self._sources.find(plugin, there.source if there is not None and not there.is_oci else "")
        if found is None:
            return f"there is no plugin {plugin!r} in any registry; `frys search` finds those that there are"
        listed = []
        for release in found[1].versions[:20]:
            why = passed_by(release, self._rules.min_age)
            listed.append(f"{release.version}{f' ({why})' if why else ''}")
        return f"there are {', '.join(listed) or 'none'}"

    # Packages.

    def _place(self, candidate: Candidate) -> Locked:
        plugin, origin = candidate.plugin, candidate.origin
        if isinstance(origin, Locked):
            if not self._transaction.store.path(plugin, origin).exists():
                self.mend(plugin, origin)
            return origin
        if isinstance(origin, Pulled):
            package = self._pulled[plugin][1]
            return self._stage_pulled(plugin, origin, package)
        assert isinstance(origin, tuple)
        view, release = origin
        path = view.package(release)
        self._progress(Progress("verify", f"{plugin} {release.version}", 0, release.size))
        package, beside = self._transaction.stage(path, plugin, release.version, release.sha256)
        _check_facts(package.metadata, release, view.registry)
        entry = _locked(package, beside, view.registry, release.signers, release.published)
        self._judge(plugin, entry, package)
        return entry

    def _judge(self, plugin: str, entry: Locked, package: Package) -> None:
        """Hold the signatures that are in place against the policy."""
        if self._rules.policy is None:
            return
        signed = look_beside(package, str(self._transaction.store.path(plugin, entry)))
        try:
            judge_signatures(
                self._rules.policy.policy(plugin).signatures, signed, f"{plugin} {entry.version}"
            )
        except LoadFailed as error:
            raise LoadFailed(error.path, f"it was not installed: {error.reason}") from None

    def mend(self, plugin: str, entry: Locked) -> None:
        """Fetch again what is locked, with the very bytes that are locked.

        Raises:
            RegistryError: Those bytes are not to be had.
        """
        if entry.is_oci:
            pulled = pull(self._session, Reference.parse(entry.source), self._cache, self._on_bytes(plugin))
            if (pulled.sha256, pulled.size) != (entry.sha256, entry.size):
                raise _other_bytes(entry.source, plugin, entry, pulled.sha256)
            path = pulled.path
        else:
            view = self._sources.view(entry.source)
            index = view.index(plugin)
            releases = index.versions if index is not None else ()
            release = next((one for one in releases if one.version == entry.version), None)
            if release is None:
                raise RegistryError(
                    entry.source, f"it does not have {plugin} {entry.version} any more, which is locked"
                )
            _check_same(plugin, entry, release, entry.source)
            path = view.package(release)
        package, beside = self._transaction.stage(path, plugin, entry.version, entry.sha256)
        if beside != entry.beside:
            reason = f"the signatures of {plugin} {entry.version} are not those that are locked"
            raise RegistryError(entry.source, reason)
        self._judge(plugin, entry, package)

    # By reference.

    def pull(self, reference: Reference) -> tuple[str, str]:
        """Fetch a package by reference, to be offered instead of all others of its id; its id and version."""
        if self._rules.min_age:
            reason = "nobody vouches for the time when it was published, and min_age asks for one"
            raise RegistryError(str(reference), reason)
        pulled = pull(self._session, reference, self._cache, self._on_bytes(str(reference)))
        package = open_package(pulled.path)
        self._pulled[package.metadata.id] = pulled, package
        return package.metadata.id, package.metadata.version

    def _on_bytes(self, what: str) -> Callable[[int], object]:
        return lambda count: self._progress(Progress("download", what, count))

    def _stage_pulled(self, plugin: str, pulled: Pulled, package: Package) -> Locked:
        found, beside = self._transaction.stage(pulled.path, plugin, package.metadata.version, pulled.sha256)
        envelope = look_beside(found, str(pulled.path)).envelope
        signers = signers_of(envelope) if envelope is not None else ()
        entry = _locked(found, beside, str(pulled.reference), signers or (), "")
        self._judge(plugin, entry, found)
        return entry


def passed_by(release: Release, min_age: float) -> str:
    """Why a version is not chosen, unless it is locked; empty when it may be."""
    if release.yanked:
        return f"yanked: {plain(release.yanked_reason)}" if release.yanked_reason else "yanked"
    now = datetime.now(UTC)
    age = (now - datetime.fromisoformat(release.published)).total_seconds()
    if min_age and age < 0:
        clock = f"{now:%Y-%m-%d %H:%M} UTC"
        return f"published {release.published}, after the time {clock} that this machine's clock shows"
    if min_age and age < min_age:
        return f"published {age / _HOUR:.1f} h ago, and min_age is {min_age / _HOUR:g} h"
    return ""


def _needs(metadata: Metadata) -> tuple[Needs, ...]:
    return tuple(
        Needs(id=one.plugin_id, range=" ".join(one.version_range.split()), optional=one.optional)
        for one in metadata.dependencies
    )


def _locked(
    package: Package, beside: dict[Kind, str], source: str, signers: Sequence[str], published: str
) -> Locked:
    about = package.metadata
    return Locked(
        version=about.version,
        sha256=package.digest,
        size=package.size,
        beside=beside,
        signers=tuple(signers),
        source=source,
        published=published,
        format=str(about.format),
        capabilities=tuple(sorted(about.capabilities)),
        permissions=tuple(sorted(map(str, about.permissions))),
        optional_permissions=tuple(sorted(map(str, about.optional_permissions))),
        dependencies=_needs(about),
    )


def _check_facts(about: Metadata, release: Release, registry: str) -> None:
    """Refuse a package that is another than the one that was chosen by what is signed about it."""
    said = (
        about.id,
        about.version,
        str(about.format),
        _needs(about),
        sorted(map(str, about.permissions)),
        sorted(map(str, about.optional_permissions)),
    )
    signed = (
        release.id,
        release.version,
        release.format,
        release.dependencies,
        sorted(release.permissions),
        sorted(release.optional_permissions),
    )
    if said != signed:
        story = "the package says something else about itself than what is signed about it"
        raise accuse(registry, f"{release.id} {release.version}", "mix-and-match", story)


def _check_same(plugin: str, there: Locked, release: Release, registry: str) -> None:
    if (release.sha256, release.size) != (there.sha256, there.size):
        raise _other_bytes(registry, plugin, there, release.sha256)


def _other_bytes(registry: str, plugin: str, there: Locked, found: str) -> RegistryError:
    return RegistryError(
        registry,
        f"{plugin} {there.version} is locked with the SHA-256 {there.sha256}, and is there with {found}; "
        "versions never change, so one of the two is not what it was. Nothing was installed",
        attack="arbitrary software",
    )
