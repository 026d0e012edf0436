"""What is signed of a registry: python-tuf's client, with mirrors, a cache, and sentences for its refusals.

Everything here blocks and belongs into a thread. What decides is TUF: the endpoints, the network and the
cache may say what they like.
"""

import contextlib
import fcntl
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn, override
from urllib.parse import quote, unquote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Timestamp
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from ..durable import replace_file
from ..errors import RegistryError
from ..metadata import is_id
from ..package_format import MAX_PACKAGE, SUFFIX
from .anchors import MAX_ROOT, find_anchor
from .attacks import accuse, explain, plain
from .cache import Cache
from .downloads import WrongBytes, download, is_there
from .paths import etag_of, index_path
from .transport import Answered, Session, TransferError, Unreachable
from .types import BESIDE, MAX_INDEX, Index, Progress, Release, read_index

_LOG: Final = logging.getLogger("frys.registry")
_OFFLINE: Final = ""
_NOT_MODIFIED: Final = 304
_MAX_METADATA: Final = 5_000_000
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500

type OnProgress = Callable[[Progress], object]


class Repository:
    """The signed part of a registry.

    Attributes:
        endpoints: The registry and its mirrors, in the order in which they are asked.
        cache: Where what comes is kept.
        folder: The registry's part of it.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        cache: Cache,
        *,
        root: str | None = None,
        first_use: bool = False,
        offline: bool | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._root, self._first_use, self._offline = root, first_use, offline
        self.cache = cache
        self.folder = cache.registry(self.endpoints[0])

    def open(self, session: Session, on_progress: OnProgress = lambda _: None) -> "View":
        """What the registry says now, verified.

        Raises:
            RegistryError: No endpoint says anything that can be believed, or none answers and what is in the
                cache is too old.
        """
        try:
            session.hold.folder(self.cache, self.folder)
            (self.folder / "metadata").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise RegistryError(
                self.endpoints[0],
                f"the cache {self.cache.folder} cannot be used: {error.strerror}; "
                "cache_dir names another place",
            ) from None
        return View(self, session, on_progress)

    def order(self) -> Iterator[str]:
        """The endpoints to ask, in this order; the last is no one: what is in the cache."""
        if self._offline is not True:
            yield from self.endpoints
        if self._offline is not False:
            yield _OFFLINE

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time: python-tuf's client wants its folder for itself."""
        with open(self.folder / "lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def updater(self, endpoint: str, session: Session, on_progress: OnProgress) -> tuple[Updater, str]:
        """A client of one endpoint that has looked at what is newest there, and the pin of its root."""
        fetcher = (
            _Fetcher(session, on_progress, self.folder / "metadata")
            if endpoint
            else _Cache(self.folder / "metadata", self.endpoints[0])
        )
        base = endpoint or self.endpoints[0]
        tuf = self.tuf(base)
        with self.locked():

            def get_root(version: int) -> bytes:
                if not endpoint:
                    raise Unreachable("nobody answers, and its root is not in the cache")
                return session.get(f"{tuf}/metadata/{version}.root.json", MAX_ROOT)

            anchor = find_anchor(
                self.folder, self.endpoints[0], self._root, get_root, first_use=self._first_use
            )
            (self.folder / "metadata").mkdir(mode=0o700, exist_ok=True)
            if anchor.first_use:
                _LOG.warning(
                    "%s: its root sha256:%s is trusted from now on, on its own word; compare it with what "
                    "its administrator says",
                    base,
                    anchor.digest,
                )
            updater = Updater(
                str(self.folder / "metadata"),
                f"{tuf}/metadata/",
                None,
                f"{tuf}/targets/",
                fetcher,
                bootstrap=anchor.data,
            )
            updater.refresh()
        return updater, anchor.pin

    @staticmethod
    def tuf(endpoint: str) -> str:
        """Where an endpoint has its signed part: a server below ``/tuf``, a folder at its top, too."""
        path = Path(unquote(urlsplit(endpoint).path))
        in_folder = endpoint.startswith("file:") and not (path / "tuf").is_dir()
        return endpoint if in_folder else f"{endpoint}/tuf"

    def package_file(self, release: Release) -> Path:
        """Where a package lies in the cache, once it is there."""
        return self.cache.package(release.sha256) / f"{release.id}-{release.version}{SUFFIX}"


class View:
    """One state of a registry, as it was when it was first asked for something.

    Attributes:
        root: The pin of the root from which on it was verified; empty before that.
    """

    def __init__(self, repository: Repository, session: Session, on_progress: OnProgress) -> None:
        self._of, self._session, self._on_progress = repository, session, on_progress
        self._updaters: dict[str, Updater] = {}
        self._bad: set[str] = set()
        self._indexes: dict[str, Index | None] = {}
        self.root = ""

    @property
    def registry(self) -> str:
        """The registry's address."""
        return self._of.endpoints[0]

    def _ask[T](self, what: str, work: Callable[[Updater, str], T]) -> T:
        """Do something with the first endpoint of which it can be believed."""
        refusals: list[RegistryError] = []
        reachable = False
        for endpoint in self._of.order():
            if endpoint in self._bad or (endpoint == _OFFLINE and reachable):
                continue  # who answers wrongly is no reason to believe what may be old
            try:
                if endpoint not in self._updaters:
                    self._updaters[endpoint], self.root = self._of.updater(
                        endpoint, self._session, self._on_progress
                    )
                    if endpoint == _OFFLINE and refusals:
                        _LOG.warning("%s does not answer; what is in the cache is used", self.registry)
                return work(self._updaters[endpoint], endpoint)
            except (TransferError, RepositoryError, DownloadError) as error:
                refusals.append(explain(endpoint or self.registry, what, error))
                reachable |= not _is_absent(error)
            except RegistryError as error:
                reachable = True
                refusals.append(error)
            except OSError as error:
                self._no_room(error)
            if len(self._of.endpoints) > 1 and refusals[-1].attack:
                _LOG.warning("%s", refusals[-1])
            self._bad.add(endpoint)
        self._bad.clear()
        raise _worst(refusals, self.registry)

    def _no_room(self, error: OSError) -> NoReturn:
        raise RegistryError(
            self.registry, f"the cache cannot be written: {error.strerror or error}; nothing was installed"
        ) from None

    def refresh(self) -> None:
        """Look at what is newest, if that was not done yet.

        Raises:
            RegistryError: Nothing can be believed.
        """
        self._ask("its metadata", lambda _updater, _endpoint: None)

    def index(self, plugin: str) -> Index | None:
        """All versions of a plugin; ``None`` when the registry has no such plugin.

        Raises:
            RegistryError: It cannot be believed.
        """
        if not is_id(plugin):
            return None
        if plugin not in self._indexes:
            self._indexes[plugin] = self._ask(
                f"the list of versions of {plugin}",
                lambda updater, endpoint: self._index(updater, endpoint, plugin),
            )
        return self._indexes[plugin]

    def _index(self, updater: Updater, endpoint: str, plugin: str) -> Index | None:
        target = updater.get_targetinfo(index_path(plugin))
        if target is None:
            return None
        what, (digest, size) = f"the list of versions of {plugin}", _hash_of(target, MAX_INDEX)
        kept = self._of.cache.list_of(self.registry, plugin)
        data = _read(kept)
        comes = hashlib.sha256(data).hexdigest() != digest
        if comes:
            data = self._get(endpoint, _target_path(target, digest), size)
            if hashlib.sha256(data).hexdigest() != digest:
                raise accuse(endpoint, what, "arbitrary software", "its bytes are not those that are signed")
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(str(kept), [data], 0o600)
        self._session.hold.list(self._of.cache, kept, grown=comes)
        return read_index(data, plugin, endpoint or self.registry)

    def package(self, release: Release) -> Path:
        """The package of a version, verified; what vouches for it lies beside it, if there is something.

        Raises:
            RegistryError: It cannot be had, or must not be believed.
        """
        name = f"{release.id} {release.version}"
        return self._ask(name, lambda updater, endpoint: self._package(updater, endpoint, release))

    def _package(self, updater: Updater, endpoint: str, release: Release) -> Path:
        name, target = f"{release.id} {release.version}", updater.get_targetinfo(release.path)
        if target is None and release.yanked:
            why = f": {plain(release.yanked_reason)}" if release.yanked_reason else ""
            raise RegistryError(self.registry, f"{name} was withdrawn by the registry's administrator{why}")
        if target is None or _hash_of(target, MAX_PACKAGE) != (release.sha256, release.size):
            story = "the signed list of versions and the signed package are not about the same bytes"
            raise accuse(endpoint or self.registry, name, "mix-and-match", story)
        path = self._of.package_file(release)
        url = f"{self._of.tuf(endpoint)}/targets/{_target_path(target, release.sha256)}"
        if endpoint or path.exists():
            self._session.hold.folder(self._of.cache, path.parent)
        if not endpoint and not is_there(path, release.size, release.sha256):
            raise Unreachable("nobody answers, and it is not in the cache")

        def on_bytes(count: int) -> None:
            self._on_progress(Progress("download", name, count, release.size))

        try:
            download(self._session, url, path, size=release.size, digest=release.sha256, on_bytes=on_bytes)
        except WrongBytes as error:
            raise accuse(endpoint, name, "arbitrary software", str(error)) from None
        for suffix, most in BESIDE.items():
            self._beside(updater, endpoint, release, path.with_name(path.name + suffix), most)
        return path

    def _beside(self, updater: Updater, endpoint: str, release: Release, path: Path, most: int) -> None:
        """Put what vouches for a package beside it; whether it is any good is for policies to say."""
        target = updater.get_targetinfo(release.path + path.name.removeprefix(Path(release.path).name))
        if target is None:
            path.unlink(missing_ok=True)
            return
        digest, size = _hash_of(target, most)
        if not endpoint and not is_there(path, size, digest):
            raise Unreachable("nobody answers, and its signatures are not in the cache")
        url = f"{self._of.tuf(endpoint)}/targets/{_target_path(target, digest)}"
        try:
            download(self._session, url, path, size=size, digest=digest)
        except WrongBytes as error:
            raise accuse(endpoint, f"{path.name}", "arbitrary software", str(error)) from None

    def _get(self, endpoint: str, target: str, size: int) -> bytes:
        if not endpoint:
            raise Unreachable("nobody answers, and it is not in the cache")
        return self._session.get(f"{self._of.tuf(endpoint)}/targets/{target}", size)


def _is_absent(error: Exception) -> bool:
    """Whether an endpoint is not there just now, which is no reason to doubt what is in the cache."""
    if isinstance(error, Answered):
        return error.status == _TOO_MANY or error.status >= _SERVER_ERROR
    if isinstance(error, DownloadHTTPError):
        return error.status_code == _TOO_MANY or error.status_code >= _SERVER_ERROR
    return isinstance(error, Unreachable)


def _worst(refusals: list[RegistryError], registry: str) -> RegistryError:
    """The error to raise when nobody could be believed: the gravest, with the others behind it."""
    if not refusals:
        return RegistryError(registry, "nobody was asked")
    gravest = max(refusals, key=lambda error: bool(error.attack))
    others = {error.reason: str(error) for error in refusals if error.reason != gravest.reason}.values()
    reason = "; and ".join([gravest.reason, *others])
    return RegistryError(gravest.endpoint, reason, attack=gravest.attack)


def _read(kept: Path) -> bytes:
    """What is in the cache; nothing when it is not there, or was just deleted."""
    try:
        return kept.read_bytes()
    except FileNotFoundError:
        return b""


def _hash_of(target: TargetFile, most: int) -> tuple[str, int]:
    digest = target.hashes.get("sha256", "")
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise RepositoryError(f"{target.path} is signed without a SHA-256")
    if not 0 <= target.length <= most:
        raise RepositoryError(f"{target.path} is signed with {target.length} bytes, and has at most {most}")
    return digest, target.length


def _target_path(target: TargetFile, digest: str) -> str:
    """Where a target lies: its digest stands before its name (TUF, section 6.2)."""
    folder, _, name = target.path.rpartition("/")
    return quote(f"{folder}/{digest}.{name}")


class _Fetcher(FetcherInterface):
    """python-tuf's way to the network: ours, with its bounds."""

    def __init__(self, session: Session, on_progress: OnProgress, metadata: Path) -> None:
        self._session, self._on_progress, self._metadata = session, on_progress, metadata

    @override
    def download_bytes(self, url: str, max_length: int) -> bytes:
        name = url.rpartition("/")[2]
        self._on_progress(Progress("metadata", name))
        max_length = min(max_length, _MAX_METADATA)  # python-tuf takes any length that is signed, into memory
        try:
            if name == f"{Timestamp.type}.json":  # the only name under which there are new bytes
                return self._news(url, max_length)
            return self._session.get(url, max_length)
        except Answered as refused:
            raise DownloadHTTPError(str(refused), refused.status) from None

    def _news(self, url: str, most: int) -> bytes:
        """What is there now, or what was there before if the server says that it is still the same.

        That is believed as little as anything else: the bytes from before are verified again, their expiry
        included, so who lies gets no more by it than by sending them. And the ETag is made of these bytes,
        and not what some server called them: who gives old bytes the ETag of new ones would otherwise have
        honest servers confirm them.
        """
        kept = _read(self._metadata / f"{Timestamp.type}.json")
        try:
            return self._session.get(url, most, {"if-none-match": etag_of(kept)} if kept else None)
        except Answered as said:
            if said.status == _NOT_MODIFIED and kept:
                return kept
            raise

    @override
    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, MAX_PACKAGE)


class _Cache(FetcherInterface):
    """What python-tuf's client gets when nobody answers: what it has already, until that expires."""

    def __init__(self, metadata: Path, registry: str) -> None:
        self._metadata, self._registry = metadata, registry

    @override
    def download_bytes(self, url: str, max_length: int) -> bytes:
        name = url.rpartition("/")[2]
        if name.endswith(f".{Root.type}.json"):
            raise DownloadHTTPError(f"there is no newer {name}", 404)
        if name != f"{Timestamp.type}.json":
            self._refuse_expired(Timestamp.type, Snapshot.type, name.split(".")[-2])
            raise Unreachable("nobody answers, and what is in the cache is not enough")
        try:
            return (self._metadata / name).read_bytes()[:max_length]
        except OSError:
            raise Unreachable("nobody answers, and nothing of it is in the cache") from None

    def _refuse_expired(self, *roles: str) -> None:
        now = datetime.now(UTC)
        for role in roles:
            with contextlib.suppress(OSError, RepositoryError):
                signed = Metadata.from_bytes((self._metadata / f"{role}.json").read_bytes()).signed
                if signed.is_expired(now):
                    reason = (
                        f"nobody answers, and what is in the cache ({role}.json) expired at "
                        f"{signed.expires:%Y-%m-%d %H:%M} UTC; this machine's clock says "
                        f"{now:%Y-%m-%d %H:%M}. If somebody keeps its answers away, this is a freeze attack. "
                        "Try again when the registry can be reached"
                    )
                    raise RegistryError(self._registry, reason, attack="freeze")

    @override
    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, MAX_PACKAGE)
