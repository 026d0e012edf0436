"""What travels: the bodies of requests and answers, as msgspec checks and OpenAPI describes them."""

from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

type Text = Annotated[str, Meta(max_length=500)]


class Beside(NamedTuple):
    """A file that lies beside a package and vouches for it.

    Attributes:
        suffix: What its name has behind the package's.
        media_type: Of its content.
        most: Bytes.
    """

    suffix: str
    media_type: str
    most: int


BESIDE: Final = {
    "signature": Beside(".sig", "application/vnd.dsse.envelope.v1+json", 64 << 10),
    "bundle": Beside(".sigstore.json", "application/vnd.dev.sigstore.bundle.v0.3+json", 256 << 10),
}
"""By the name of the part of the form that brings it."""


class Body(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An object of an answer; keys in camelCase."""


class Wish(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """An object of a request; unknown keys are refused."""


class Needs(Body, frozen=True):
    """A plugin that a version depends on."""

    id: str
    range: str
    optional: bool


class Facts(Body, frozen=True):
    """What a client needs to know of a version to choose it; signed as part of its TUF target.

    Attributes:
        id: The plugin.
        version: The version.
        format: Its kind.
        dependencies: What it depends on.
        permissions: What it asks for.
        optional_permissions: What it asks for and can do without.
        signers: The ids of the keys whose signatures came with the package.
        published: When, as RFC 3339 in UTC.
    """

    id: str
    version: str
    format: str
    dependencies: tuple[Needs, ...]
    permissions: tuple[str, ...]
    optional_permissions: tuple[str, ...]
    signers: tuple[str, ...]
    published: str


class Version(Facts, frozen=True):
    """A version of a plugin.

    Attributes:
        path: Its TUF target.
        sha256: Of its package.
        size: Bytes of its package.
        yanked: Whether it is not to be chosen any more, except by those who have locked it.
        yanked_reason: Why.
    """

    path: str
    sha256: str
    size: int
    yanked: bool
    yanked_reason: str


class Deprecation(Body, frozen=True):
    """A notice that a plugin is not kept up any more."""

    message: str
    replacement: str


class Index(Body, frozen=True):
    """All versions of a plugin, the newest first: the TUF target ``BIN/ID/index.json``."""

    id: str
    deprecated: Deprecation | None
    versions: tuple[Version, ...]


class Summary(Body, frozen=True):
    """A plugin in a list.

    Attributes:
        latest: The newest release that is not yanked; a pre-release only when there is nothing else.
        updated: When its last version was published, as RFC 3339 in UTC.
    """

    id: str
    name: str
    description: str
    author: str
    license: str
    format: str
    capabilities: tuple[str, ...]
    permissions: tuple[str, ...]
    latest: str
    downloads: int
    deprecated: bool
    updated: str


class FacetValue(Body, frozen=True):
    """How many of the plugins that were found have a property."""

    value: str
    count: int


class Facets(Body, frozen=True):
    """The properties by which a search can be narrowed.

    Attributes:
        exact: Whether every plugin that was found is counted; of a search with very many, only the first are.
    """

    capability: tuple[FacetValue, ...]
    permission: tuple[FacetValue, ...]
    license: tuple[FacetValue, ...]
    format: tuple[FacetValue, ...]
    exact: bool


class SearchResult(Body, frozen=True):
    """A page of what a search found.

    Attributes:
        total: How many plugins there are on all pages.
        corrected: The words that were searched for instead, where no plugin has those that were given.
        cursor: What to ask the next page with; empty on the last one.
    """

    plugins: tuple[Summary, ...]
    total: int
    corrected: str
    facets: Facets
    cursor: str


class PluginDetail(Body, frozen=True):
    """Everything about a plugin, with its latest version.

    Attributes:
        readme: The README of the latest version, as it is: text of a stranger.
        oci: The name of the plugin as an OCI repository of this registry.
    """

    id: str
    name: str
    description: str
    author: str
    license: str
    format: str
    capabilities: tuple[str, ...]
    deprecated: Deprecation | None
    owners: tuple[str, ...]
    downloads: int
    created: str
    updated: str
    latest: Version
    versions: int
    readme: str
    oci: str


class File(Body, frozen=True):
    """A file in a package."""

    path: str
    size: int
    sha256: str


class VersionDetail(Version, frozen=True):
    """Everything about a version.

    Attributes:
        metadata: Its ``plugin.json``.
        files: What is in its package.
        publisher: Who published it.
        signature: Whether a signature envelope came with it.
        bundle: Whether a bundle of Sigstore came with it.
        withdrawn: Whether an administrator has taken it away; it cannot be fetched then.
    """

    metadata: dict[str, Any]
    files: tuple[File, ...]
    readme: str
    publisher: str
    downloads: int
    signature: bool
    bundle: bool
    withdrawn: bool


class Published(Body, frozen=True):
    """A version was published."""

    id: str
    version: str
    sha256: str
    path: str
    url: str


class Yank(Wish, frozen=True):
    """Why a version is not to be chosen any more."""

    reason: Text = ""


class Deprecate(Wish, frozen=True):
    """Why a plugin is not kept up any more, and what takes its place."""

    message: Text = ""
    replacement: Annotated[str, Meta(max_length=64)] = ""


class Owners(Body, frozen=True):
    """The publishers that may publish versions of a plugin."""

    owners: tuple[str, ...]


class NewToken(Wish, frozen=True):
    """A token that is wished for.

    Attributes:
        publisher: Whose it is; made if there is none of the name.
        scopes: ``publish:PATTERN``, ``yank:PATTERN``, ``owners:PATTERN`` or ``admin``.
        days: Until it expires; null for never.
        label: To tell it from others.
    """

    publisher: str
    scopes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=32)]
    days: Annotated[float, Meta(gt=0, le=36500)] | None = 365
    label: Annotated[str, Meta(max_length=100)] = ""


class CreatedToken(Body, frozen=True):
    """A new token; it cannot be shown again."""

    token: str


class Token(Body, frozen=True):
    """A token as it can be listed: without its secret."""

    id: str
    publisher: str
    label: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None
    revoked: str | None


class Tokens(Body, frozen=True):
    """Tokens, the newest first."""

    tokens: tuple[Token, ...]


class Who(Body, frozen=True):
    """Whose token was sent, and what it is good for."""

    publisher: str
    scopes: tuple[str, ...]


class Stats(Body, frozen=True):
    """Numbers of the whole registry."""

    plugins: int
    versions: int
    publishers: int
    downloads: int
    downloads_last_30_days: int
    bytes: int


class About(Body, frozen=True):
    """What this registry is and where its parts are."""

    title: str
    api: str
    tuf_metadata: str
    tuf_targets: str
    oci: str
    max_package: int
    require_signature: bool


class Done(Body, frozen=True):
    """It is so, now or already before."""

    changed: bool


class Health(Body, frozen=True):
    """Whether the registry works, and what an administrator should look at soon.

    Attributes:
        status: ``ok`` or ``failing``.
        warnings: Sentences.
    """

    status: str
    warnings: tuple[str, ...]


class Problem(Body, frozen=True):
    """An error (RFC 9457).

    Attributes:
        type: ``about:blank``: the status says the kind.
        title: The status in words.
        status: The HTTP status.
        detail: What happened, why, and what to do.
    """

    type: str
    title: str
    status: int
    detail: str
