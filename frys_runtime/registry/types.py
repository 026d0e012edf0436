"""What a registry says, checked and bounded.

:class:`Release` and :class:`Index` come out of TUF metadata. The others are the word of the server alone: for
people to read, and never what decides what is installed.
"""

import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ..errors import RegistryError
from ..metadata import is_id
from ..ranges import MAX_RANGE, MAX_VERSION, Range, Version
from ..signing import MAX_ENVELOPE, SUFFIX as SIGNATURE_SUFFIX
from ..sigstore_bundle import MAX_BUNDLE, SUFFIX as BUNDLE_SUFFIX
from .paths import package_path

_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")

type Kind = Literal[".sig", ".sigstore.json"]

BESIDE: Final[dict[Kind, int]] = {SIGNATURE_SUFFIX: MAX_ENVELOPE, BUNDLE_SUFFIX: MAX_BUNDLE}
"""What may lie beside a package: by the end of its name, how many bytes it may have."""

MAX_INDEX: Final = 8 << 20
"""Bytes of a list of versions."""

type _Id = Annotated[str, Meta(min_length=1, max_length=128)]
type _Word = Annotated[str, Meta(max_length=128)]
type _Words = Annotated[tuple[_Word, ...], Meta(max_length=256)]
type _Text = Annotated[str, Meta(max_length=4096)]
type _Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
type _Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z\Z")]
type _Count = Annotated[int, Meta(ge=0, le=1 << 62)]


class _Answer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An object of an answer; keys that are not known here are for newer clients."""


class Needs(_Answer, frozen=True, kw_only=True):
    """A plugin that a release depends on."""

    id: _Id
    range: Annotated[str, Meta(max_length=MAX_RANGE)] = "*"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse a range that is none."""
        Range.parse(self.range)


class Release(_Answer, frozen=True, kw_only=True):
    """A version of a plugin, as signed metadata describes it.

    Attributes:
        id: The plugin.
        version: The version.
        format: Its kind.
        dependencies: What it depends on.
        permissions: What it asks for.
        optional_permissions: What it asks for and can do without.
        signers: The ids of the keys that are named in its signature envelope.
        published: When the registry took it, as RFC 3339 in UTC.
        sha256: Of its package.
        size: Bytes of its package.
        yanked: Whether it is not to be chosen any more, except by those who have locked it.
        yanked_reason: Why.
    """

    id: _Id
    version: Annotated[str, Meta(min_length=1, max_length=MAX_VERSION)]
    format: _Word
    dependencies: Annotated[tuple[Needs, ...], Meta(max_length=1024)] = ()
    permissions: _Words = ()
    optional_permissions: _Words = ()
    signers: _Words = ()
    published: _Time
    path: Annotated[str, Meta(max_length=512)]
    sha256: _Digest
    size: _Count
    yanked: bool = False
    yanked_reason: _Text = ""

    @property
    def number(self) -> Version:
        """The version, to be compared."""
        return Version.parse(self.version)


class Deprecation(_Answer, frozen=True, kw_only=True):
    """A notice that a plugin is not kept up any more."""

    message: _Text = ""
    replacement: _Word = ""


class Index(_Answer, frozen=True, kw_only=True):
    """All versions of a plugin, the newest first, as signed metadata lists them."""

    id: _Id
    deprecated: Deprecation | None = None
    versions: Annotated[tuple[Release, ...], Meta(max_length=10_000)] = ()


class PluginSummary(_Answer, frozen=True, kw_only=True):
    """A plugin that a search found, in the words of the server and the publisher."""

    id: _Id
    name: _Text = ""
    description: _Text = ""
    author: _Text = ""
    license: _Text = ""
    format: _Word = ""
    capabilities: _Words = ()
    permissions: _Words = ()
    latest: _Word = ""
    downloads: _Count = 0
    deprecated: bool = False
    updated: _Word = ""


class FacetValue(_Answer, frozen=True, kw_only=True):
    """How many of the plugins that were found have a property."""

    value: _Text
    count: _Count


class SearchPage(_Answer, frozen=True, kw_only=True):
    """A page of what a search found.

    Attributes:
        plugins: The best first.
        total: How many there are on all pages.
        corrected: The words that were searched for instead, where no plugin has those that were given.
        facets: Properties by which it can be narrowed, by kind.
        cursor: What to ask the next page with; empty on the last one.
    """

    plugins: Annotated[tuple[PluginSummary, ...], Meta(max_length=100)]
    total: _Count
    corrected: _Text = ""
    facets: dict[str, Annotated[tuple[FacetValue, ...], Meta(max_length=1000)] | bool] = {}
    cursor: _Word = ""


class LatestRelease(_Answer, frozen=True, kw_only=True):
    """The newest version of a plugin, in the words of the server."""

    version: _Word
    published: _Word = ""
    permissions: _Words = ()
    signers: _Words = ()


class PluginDetail(_Answer, frozen=True, kw_only=True):
    """A plugin, in the words of the server and the publisher; the README is text of a stranger."""

    id: _Id
    name: _Text = ""
    description: _Text = ""
    author: _Text = ""
    license: _Text = ""
    format: _Word = ""
    capabilities: _Words = ()
    deprecated: Deprecation | None = None
    owners: _Words = ()
    downloads: _Count = 0
    created: _Word = ""
    updated: _Word = ""
    latest: LatestRelease
    versions: _Count = 0
    readme: Annotated[str, Meta(max_length=2 << 20)] = ""


class PublishedPlugin(_Answer, frozen=True, kw_only=True):
    """A version that was published."""

    id: _Id
    version: _Word
    sha256: _Digest
    url: _Text = ""


class Changed(_Answer, frozen=True, kw_only=True):
    """What was wished for is so; ``changed``, if it was not before."""

    changed: bool


class Owners(_Answer, frozen=True, kw_only=True):
    """The publishers that may publish versions of a plugin."""

    owners: _Words


class RegistryStats(_Answer, frozen=True, kw_only=True):
    """Numbers of a whole registry, in its own words."""

    plugins: _Count
    versions: _Count
    publishers: _Count
    downloads: _Count
    downloads_last_30_days: _Count = 0
    bytes: _Count = 0


class Progress(NamedTuple):
    """How far something has got.

    Attributes:
        step: ``metadata``, ``download`` or ``verify``.
        what: Of what: a metadata file or a package.
        done: Bytes that are there.
        total: Bytes of all of it; 0 when that is not known.
    """

    step: str
    what: str
    done: int = 0
    total: int = 0


def read_answer[T](data: bytes, kind: type[T], endpoint: str) -> T:
    """Read what a server answered.

    Raises:
        RegistryError: It is something else.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = f"it answered something else than a registry does ({error}); is the address right?"
        raise RegistryError(endpoint, reason) from None


def read_index(data: bytes, plugin: str, endpoint: str) -> Index:
    """Read the versions of a plugin out of a TUF target.

    Raises:
        RegistryError: It is no such list, or one of another plugin.
    """
    index = read_answer(data, Index, endpoint)
    try:
        for release in index.versions:
            named = (release.id, release.path) == (plugin, package_path(plugin, release.version))
            if not named or not all(is_id(need.id) for need in release.dependencies):
                raise ValueError(f"it names {release.id[:80]!r} {release.version[:80]!r}")
            Version.parse(release.version)
    except ValueError as error:
        reason = f"the list of versions of {plugin} is not one: {error}; tell the registry's administrator"
        raise RegistryError(endpoint, reason, attack="arbitrary software") from None
    if index.id != plugin:
        reason = f"the list of versions of {plugin} is one of {index.id!r}; nothing was taken from it"
        raise RegistryError(endpoint, reason, attack="mix-and-match")
    return index


class _Named(msgspec.Struct, frozen=True):
    keyid: Annotated[str, Meta(max_length=256)] = ""


class _Envelope(msgspec.Struct, frozen=True):
    signatures: Annotated[tuple[_Named, ...], Meta(max_length=64)]


def signers_of(envelope: bytes) -> tuple[str, ...] | None:
    """The ids of the keys that a signature envelope names, believed or not; ``None`` when it is none."""
    try:
        found = msgspec.json.decode(envelope, type=_Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return tuple(sorted({one.keyid for one in found.signatures if _KEY_ID.fullmatch(one.keyid)}))
