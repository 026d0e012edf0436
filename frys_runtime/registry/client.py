"""PluginRegistry: search, look at, download and publish plugins of one registry."""

import asyncio
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

from ..durable import replace_file
from ..errors import ConfigError, LoadFailed, RegistryError
from ..package import open_package, read_package
from ..package_format import SUFFIX
from ..packing import pack
from ..ranges import Range
from ..signing import SUFFIX as SIGNATURE_SUFFIX, read_beside
from ..sigstore_bundle import MAX_BUNDLE, SUFFIX as BUNDLE_SUFFIX
from .cache import DEFAULT_LIMIT, Cache, read_limit
from .types import (
    BESIDE,
    Index,
    PluginDetail,
    PluginSummary,
    Progress,
    PublishedPlugin,
    RegistryStats,
    Release,
    SearchPage,
    read_answer,
)

if TYPE_CHECKING:
    from .repository import Repository
    from .transport import Files, Patience, Session

_MAX_ANSWER: Final = 8 << 20
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_NEEDS: Final = ("httpx", "tuf", "resolvelib")


def require_installed() -> None:
    """Refuse when what a client of a registry needs is not installed.

    Raises:
        ConfigError: It says what to install.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "registry",
            f"a client of a registry needs {', '.join(missing)}, which is not installed; "
            'pip install "frys-runtime[market]" installs it',
        )


def cache_folder() -> Path:
    """Where metadata and packages are kept by default (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "frys"


def open_cache(folder: str | os.PathLike[str] | None = None, limit: int | None = None) -> Cache:
    """A cache, by default the user's.

    Raises:
        ConfigError: Its limit is none.
    """
    if limit is None:
        said = os.environ.get("FRYS_CACHE_LIMIT", "")
        limit = read_limit(said, "FRYS_CACHE_LIMIT") if said else DEFAULT_LIMIT
    if limit < 0:
        raise ConfigError("cache_limit", f"must be 0 or more bytes, not {limit}")
    return Cache(Path(folder) if folder is not None else cache_folder(), limit)


class PluginRegistry:
    """A registry of plugins.

        async with PluginRegistry("https://plugins.example.com", root="root.json") as registry:
            for plugin in await registry.search_plugins("data-processing", 10):
                print(plugin.id, plugin.latest)
            path = await registry.download_plugin("my-plugin", "^1.2")

    What is downloaded was verified from the root on (TUF). What a search or :meth:`get_plugin` says is the
    word of the server, to be read by people. Nothing blocks the event loop.

    Args:
        url: ``https://...``, ``http://...``, or a folder (a path or ``file://...``) that
            ``frys registry export`` made.
        mirrors: Other addresses of the same registry, asked in this order when the one before does not answer
            or must not be believed. Any server of files will do: what they say is verified the same way.
        root: The root of trust: a file, or ``sha256:`` and the digest of the registry's first root.
        trust_on_first_use: Whether to take the registry's own first root when none is named and none is known
            from before. It is remembered in the cache, and told (logger ``frys.registry``).
        cache_dir: By default ``frys`` in the user's cache folder.
        cache_limit: Bytes that the cache may have. What was not used for the longest time is deleted beyond
            that, but nothing that is being used. By default what stands in FRYS_CACHE_LIMIT, or 1 GiB.
        offline: ``None``: what is in the cache is used when nobody answers, until its metadata expires;
            ``True``: nobody is asked; ``False``: what nobody confirms now is not used.
        token: For publishing; by default what stands in FRYS_TOKEN.
        progress: Is called with :class:`Progress`, from another thread.
        patience: How long transfers may take.

    Raises:
        ConfigError: A setting is wrong, or what a client needs is not installed.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        mirrors: Iterable[str | os.PathLike[str]] = (),
        root: str | os.PathLike[str] | None = None,
        trust_on_first_use: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_limit: int | None = None,
        offline: bool | None = None,
        token: str | None = None,
        progress: Callable[[Progress], object] | None = None,
        patience: "Patience | None" = None,
    ) -> None:
        require_installed()
        self.url = endpoint_of(url)
        self._endpoints = (self.url, *map(endpoint_of, mirrors))
        self._root = os.fspath(root) if root is not None else None
        self._first_use, self._offline = trust_on_first_use, offline
        self.cache = open_cache(cache_dir, cache_limit)
        self._token = os.environ.get("FRYS_TOKEN", "") if token is None else token
        self.progress = progress or (lambda _: None)
        self._patience = patience
        self._sessions: set[Session] = set()

    def __repr__(self) -> str:
        return f"PluginRegistry({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is under way. A registry holds nothing else between two operations."""
        for session in tuple(self._sessions):
            session.cancel()

    def session(self) -> "Session":
        """What fetches for one operation, in a thread of its own."""
        from .transport import Session

        return Session(self._patience)

    def repository(self, *, pinned: str | None = None) -> "Repository":
        """The signed part of it, for a thread.

        Args:
            pinned: A root to trust when the caller of the constructor named none.
        """
        from .repository import Repository

        return Repository(
            self._endpoints,
            self.cache,
            root=self._root if self._root is not None else pinned,
            first_use=self._first_use,
            offline=self._offline,
        )

    async def run[T](self, work: "Callable[[Session], T]") -> T:
        """Do in a thread what needs the network; cancelling it ends its transfers.

        Args:
            work: Gets a session that is closed afterwards.
        """
        session = self.session()
        self._sessions.add(session)

        def in_thread() -> T:
            with session:
                return work(session)

        try:
            return await to_the_end(in_thread, session.cancel)
        finally:
            self._sessions.discard(session)

    # What is signed.

    async def versions(self, plugin: str) -> list[Release]:
        """All versions of a plugin, the newest first; empty when there is no such plugin.

        Raises:
            RegistryError: The registry does not answer, or must not be believed.
        """
        index = await self.index(plugin)
        return list(index.versions) if index is not None else []

    async def index(self, plugin: str) -> Index | None:
        """All versions of a plugin, with the notice that it is not kept up any more, if there is one.

        Raises:
            RegistryError: The registry does not answer, or must not be believed.
        """
        repository = self.repository()
        return await self.run(lambda session: repository.open(session, self.progress).index(plugin))

    async def download_plugin(
        self, plugin: str, version: str = "*", target: str | os.PathLike[str] | None = None
    ) -> Path:
        """Download the package of a plugin, with what vouches for it beside it.

        Args:
            plugin: The plugin's id.
            version: A version or a range; the best that is not yanked is taken, and a yanked one only when
                it is named exactly.
            target: A folder to put the files in; by default they stay in the cache, until they are among what
                was not used for the longest time.

        Returns:
            The package's path; ``load_plugin`` takes it.

        Raises:
            RegistryError: There is no such plugin or version, or it must not be believed.
            ValueError: The version is none.
        """
        accepted, repository = Range.parse(version), self.repository()

        def work(session: "Session") -> Path:
            view = repository.open(session, self.progress)
            release = _choose(self.url, plugin, version, accepted, view.index(plugin))
            path = view.package(release)
            return path if target is None else _copy(path, Path(target), release, self.url)

        return await self.run(work)

    # The word of the server.

    async def search_plugins(self, query: str = "", limit: int = 20, **filters: Any) -> list[PluginSummary]:
        """Search, and get the best hits; :meth:`search` has the filters, and more to say.

        Raises:
            RegistryError: The registry does not answer.
        """
        return list((await self.search(query, limit=limit, **filters)).plugins)

    async def search(
        self,
        query: str = "",
        *,
        limit: int = 20,
        capability: str | Sequence[str] = (),
        permission: str | Sequence[str] = (),
        license: str | Sequence[str] = (),  # noqa: A002 - the name of the filter in the registry's API
        format: str | Sequence[str] = (),  # noqa: A002
        sort: str = "relevance",
        cursor: str = "",
    ) -> SearchPage:
        """Search.

        Args:
            query: Words that all must be there; the last one may be unfinished. None lists everything.
            limit: Hits of a page, 1 to 100.
            capability: What it must be good for.
            permission: What it must ask for.
            license: Its licence.
            format: Its kind.
            sort: ``relevance``, ``downloads``, ``updated`` or ``name``.
            cursor: Where the next page begins, from the page before.

        Raises:
            RegistryError: The registry does not answer, or has another idea of a search.
        """
        words = [("q", query), ("limit", str(limit)), ("sort", sort), ("cursor", cursor)]
        kinds = {"capability": capability, "permission": permission, "license": license, "format": format}
        for kind, values in kinds.items():
            words += [(kind, value) for value in ([values] if isinstance(values, str) else values)]
        asked = urlencode([(key, value) for key, value in words if value])
        return await self.ask(f"search?{asked}", SearchPage)

    async def get_plugin(self, plugin: str) -> PluginDetail:
        """What the registry tells people about a plugin.

        Raises:
            RegistryError: The registry does not answer, or has no such plugin.
        """
        return await self.ask(f"plugins/{quote(plugin, safe='')}", PluginDetail)

    async def stats(self) -> RegistryStats:
        """Numbers of the whole registry.

        Raises:
            RegistryError: The registry does not answer.
        """
        return await self.ask("stats", RegistryStats)

    async def publish_plugin(
        self,
        path: str | os.PathLike[str],
        *,
        signature: str | os.PathLike[str] | bytes | None = None,
        token: str | None = None,
    ) -> PublishedPlugin:
        """Publish a package, or a folder as a package.

        Args:
            path: The package that ``frys pack`` made, or the folder.
            signature: Its signature file; by default the one beside the package, if there is one. A Sigstore
                bundle beside the package goes along, too.
            token: Instead of the one of the constructor.

        Raises:
            InvalidFormat, ConfigError: It is no package.
            RegistryError: The registry does not answer or does not take it; it says why.
        """
        files = await asyncio.to_thread(_read_to_publish, os.fspath(path), signature)
        bearer = self._token if token is None else token
        if not bearer:
            raise RegistryError(
                self.url,
                "publishing needs a token; set FRYS_TOKEN, or give token=; its administrator makes one",
            )
        said = await self.ask("plugins", PublishedPlugin, method="POST", files=files, token=bearer)
        sent = hashlib.sha256(files["package"][1]).hexdigest()
        if said.sha256 != sent:
            reason = (
                f"it says that it published the SHA-256 {said.sha256}, and {sent} was sent; do not rely on it"
            )
            raise RegistryError(self.url, reason)
        return said

    async def ask[T](
        self,
        path: str,
        kind: type[T],
        *,
        method: str = "GET",
        files: "Files | None" = None,
        body: bytes | None = None,
        token: str = "",
    ) -> T:
        """Ask the API something.

        Args:
            path: Below ``/api/v1/``.
            kind: What it answers.
            method: GET, POST, PUT or DELETE.
            files: A form to send,
            body: or JSON.
            token: Who asks.

        Raises:
            RegistryError: The registry does not answer, or refuses; it says why.
        """
        if self.url.startswith("file:"):
            raise RegistryError(self.url, "a folder has no search and takes nothing; only a server does")
        if self._offline:
            raise RegistryError(self.url, "this asks the registry, and offline=True (--offline) asks nobody")
        if token and urlsplit(self.url).scheme != "https" and urlsplit(self.url).hostname not in _LOOPBACK:
            raise RegistryError(
                self.url, "a token is not sent without TLS, where anybody can read it; use https://"
            )
        from .attacks import explain
        from .transport import Answered, TransferError

        def work(session: "Session") -> bytes:
            return session.call(
                f"{self.url}/api/v1/{path}", _MAX_ANSWER, method=method, files=files, body=body, token=token
            )

        try:
            return read_answer(await self.run(work), kind, self.url)
        except Answered as refused:
            said = refused.detail or f"it answered {refused.status}; is this the address of a registry?"
            raise RegistryError(self.url, said) from None
        except TransferError as error:
            raise explain(self.url, "the answer", error) from None


async def to_the_end[T](work: Callable[[], T], cancel: Callable[[], object] = lambda: None) -> T:
    """Do in a thread what must not be left alone: who is cancelled meanwhile waits for its end.

    Args:
        work: What to do.
        cancel: Makes the end come soon.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cancel()
        await asyncio.wait([task])
        task.exception()
        raise


def endpoint_of(url: str | os.PathLike[str]) -> str:
    """A registry's address in one spelling, without a slash at the end.

    Raises:
        ConfigError: It is none.
    """
    text = os.fspath(url)
    if "://" not in text:
        return Path(text).absolute().as_uri().rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("registry", f"{text!r} is no address of a registry") from None
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return text.rstrip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            "registry", f"{text!r} is no address of a registry; one is https://..., http://... or a folder"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError("registry", "an address has no user and password; a token stands in FRYS_TOKEN")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port is not None else ''}{parts.path.rstrip('/')}"


def _choose(registry: str, plugin: str, wanted: str, accepted: Range, index: Index | None) -> Release:
    if index is None:
        raise no_such_plugin(registry, plugin)
    exact = [release for release in index.versions if release.version == wanted]
    there = [release for release in index.versions if not release.yanked]
    best = accepted.best(release.number for release in there)
    found = exact or [release for release in there if release.number == best]
    if not found:
        raise RegistryError(registry, no_such_version(plugin, wanted, index))
    return found[0]


def no_such_plugin(registry: str, plugin: str) -> RegistryError:
    """The error to raise when a registry has no plugin of an id."""
    return RegistryError(registry, f"it has no plugin {plugin!r}; `frys search` finds those that it has")


def no_such_version(plugin: str, wanted: str, index: Index) -> str:
    """Why no version could be chosen."""
    listed = ", ".join(
        f"{release.version}{' (yanked)' if release.yanked else ''}" for release in index.versions[:10]
    )
    more = ", ..." if len(index.versions) > 10 else ""
    return f"no version of {plugin} fits {wanted}; there are {listed or 'none'}{more}"


def _copy(path: Path, folder: Path, release: Release, registry: str) -> Path:
    """Put a package and its signatures into another folder; the copy is what was verified."""
    target = folder / f"{release.id}-{release.version}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        if read_package(data, path.name).digest != release.sha256:
            raise RegistryError(registry, f"{path} was changed in the cache while it was copied")
        for suffix in BESIDE:
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                replace_file(str(target.with_name(target.name + suffix)), [beside.read_bytes()])
        replace_file(str(target), [data])
    except OSError as error:
        raise RegistryError(registry, f"{folder} cannot be written: {error.strerror}") from None
    return target


def _read_to_publish(
    path: str, signature: str | os.PathLike[str] | bytes | None
) -> dict[str, tuple[str, bytes]]:
    """The parts of the form that publishes a package."""
    if os.path.isdir(path):
        data = pack(path)
    else:
        open_package(path)  # an error that names what is wrong is better than the registry's refusal
        data = Path(path).read_bytes()
    bare = path.rstrip("/")
    if not isinstance(signature, bytes):
        named = bare + SIGNATURE_SUFFIX if signature is None else os.fspath(signature)
        found = read_beside(named)
        if found is None and signature is not None:
            raise LoadFailed(named, "there is no such file")
        signature = found
    parts = {"package": data, "signature": signature, "bundle": read_beside(bare + BUNDLE_SUFFIX, MAX_BUNDLE)}
    return {name: (name, content) for name, content in parts.items() if content is not None}
