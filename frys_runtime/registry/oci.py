"""A package from an OCI registry, by reference: every byte is held against a digest.

A digest says which bytes, and nothing about who made them or whether they are the newest: for that, a policy
asks for signatures. Specification: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self, override
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta

from ..durable import replace_file
from ..errors import ConfigError, RegistryError
from ..package_format import MAX_PACKAGE
from ..signing import SUFFIX as SIGNATURE_SUFFIX
from ..sigstore_bundle import SUFFIX as BUNDLE_SUFFIX
from .attacks import accuse, explain, plain
from .cache import Cache
from .downloads import OnBytes, WrongBytes, download
from .transport import Answered, Odd, Session, TransferError
from .types import BESIDE, Kind, read_answer

SCHEME: Final = "oci://"

_LAYER: Final = "application/vnd.frys.package.v1+zip"
_BESIDE: Final[dict[str, Kind]] = {
    "application/vnd.dsse.envelope.v1+json": SIGNATURE_SUFFIX,
    "application/vnd.dev.sigstore.bundle.v0.3+json": BUNDLE_SUFFIX,
}
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MAX_MANIFEST: Final = 4 << 20
_MAX_TOKEN: Final = 64 << 10
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_NAME: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_REFERENCE: Final = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,45}\])(?::(?P<port>[0-9]{1,5}))?/"
    rf"(?P<name>{_NAME})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?(?:@sha256:(?P<digest>[0-9a-f]{{64}}))?"
)
_CHALLENGE: Final = re.compile(r'([a-z]+)="([^"]{0,1000})"')

type _Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: Annotated[str, Meta(max_length=255)]
    digest: _Digest
    size: Annotated[int, Meta(ge=0, le=MAX_PACKAGE)]
    artifact_type: Annotated[str, Meta(max_length=255)] = ""


class _Manifest(msgspec.Struct, frozen=True):
    layers: Annotated[tuple[_Descriptor, ...], Meta(max_length=128)]


class _Referrers(msgspec.Struct, frozen=True):
    manifests: Annotated[tuple[_Descriptor, ...], Meta(max_length=1000)] = ()


class _Token(msgspec.Struct, frozen=True):
    token: Annotated[str, Meta(max_length=_MAX_TOKEN)] = ""
    access_token: Annotated[str, Meta(max_length=_MAX_TOKEN)] = ""


class Reference(NamedTuple):
    """Where an artifact is: ``oci://host:port/name:tag`` or ``...@sha256:...``.

    Attributes:
        host: With the port, if one is named.
        name: The repository.
        tag: ``latest`` if neither a tag nor a digest is named.
        digest: The SHA-256 of its manifest in hexadecimal; empty when it is not known.
    """

    host: str
    name: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

        Raises:
            ConfigError: It is none.
        """
        match = _REFERENCE.fullmatch(text) if len(text) <= 1024 else None
        if match is None:
            raise ConfigError(
                "reference",
                f"{text[:100]!r} is none; one is oci://host/name:tag or oci://host/name@sha256:...",
            )
        host = match["host"] + (f":{match['port']}" if match["port"] else "")
        tag = match["tag"] or ("" if match["digest"] else "latest")
        return cls(host, match["name"], tag, match["digest"] or "")

    @override
    def __str__(self) -> str:
        end = f"@sha256:{self.digest}" if self.digest else f":{self.tag}"
        return f"{SCHEME}{self.host}/{self.name}{end}"

    @property
    def base(self) -> str:
        """Where the repository is: without TLS on this machine only."""
        scheme = "http" if urlsplit(f"//{self.host}").hostname in _LOOPBACK else "https"
        return f"{scheme}://{self.host}/v2/{self.name}"


class Pulled(NamedTuple):
    """A package that was fetched; what vouches for it lies beside it.

    Attributes:
        path: Where it is.
        reference: The same artifact, by its digest.
        sha256: Of the package.
        size: Its bytes.
    """

    path: Path
    reference: Reference
    sha256: str
    size: int


def pull(session: Session, reference: Reference, cache: Cache, on_bytes: OnBytes = lambda _: None) -> Pulled:
    """Fetch a package, with its signatures.

    Args:
        session: Fetches.
        reference: What; without a digest, the one that the tag has now is in the result, to be recorded.
        cache: Where it is kept.
        on_bytes: Is told how many bytes of the package are there.

    Raises:
        RegistryError: It cannot be had, or has other bytes than its digests say.
    """
    client = _Client(session, reference)
    where = str(reference)
    try:
        data = client.manifest(f"sha256:{reference.digest}" if reference.digest else reference.tag)
        digest = hashlib.sha256(data).hexdigest()
        layers = read_answer(data, _Manifest, where).layers
        packages = [layer for layer in layers if layer.media_type == _LAYER]
        if len(packages) != 1:
            kinds = plain(", ".join(sorted({layer.media_type[:80] for layer in layers})[:4])) or "nothing"
            raise RegistryError(where, f"this is no plugin: its manifest has {kinds}, and not one {_LAYER}")
        layer = packages[0]
        path = cache.package(layer.digest[7:]) / "package.frys"
        session.hold.folder(cache, path.parent)
        download(
            session,
            f"{reference.base}/blobs/{layer.digest}",
            path,
            size=layer.size,
            digest=layer.digest[7:],
            on_bytes=on_bytes,
            headers=client.headers,
            elsewhere=True,
        )
        for kind, suffix in _BESIDE.items():
            beside, found = path.with_name(path.name + suffix), client.referrer(digest, kind, BESIDE[suffix])
            if found is None:
                beside.unlink(missing_ok=True)
            else:
                replace_file(str(beside), [found], 0o600)
    except TransferError as error:
        raise explain(where, "the artifact", error) from None
    except WrongBytes as error:
        raise accuse(where, "the artifact", "arbitrary software", str(error)) from None
    except OSError as error:
        raise RegistryError(where, f"the cache {cache.folder} cannot be written: {error.strerror}") from None
    return Pulled(path, reference._replace(tag="", digest=digest), layer.digest[7:], layer.size)


class _Client:
    """One repository, read without an account; with a token that anybody gets, if it wants one."""

    def __init__(self, session: Session, reference: Reference) -> None:
        self._session, self._of = session, reference
        self.headers: dict[str, str] = {}

    def manifest(self, reference: str) -> bytes:
        """A manifest, by tag or digest; one by digest has it."""
        data = self._get(f"manifests/{reference}", _MAX_MANIFEST, f"{_MANIFEST}, {_INDEX}")
        self._check(data, reference)
        return data

    def referrer(self, subject: str, kind: str, most: int) -> bytes | None:
        """What refers to a manifest and is of a kind, if there is something."""
        query = urlencode({"artifactType": kind})
        try:
            listed = self._get(f"referrers/sha256:{subject}?{query}", _MAX_MANIFEST, _INDEX)
        except Answered as refused:
            if refused.status != 404:
                raise
            try:  # a registry without that interface: section "Referrers Tag Schema"
                listed = self._get(f"manifests/sha256-{subject}", _MAX_MANIFEST, _INDEX)
            except Answered as refused:
                if refused.status != 404:
                    raise
                return None
        for found in read_answer(listed, _Referrers, str(self._of)).manifests:
            if found.artifact_type != kind:
                continue
            signed = read_answer(self.manifest(found.digest), _Manifest, str(self._of))
            for layer in signed.layers:
                if layer.media_type == kind:
                    data = self._get(f"blobs/{layer.digest}", most, "*/*")
                    self._check(data, layer.digest)
                    return data
        return None

    @staticmethod
    def _check(data: bytes, digest: str) -> None:
        found = hashlib.sha256(data).hexdigest()
        if digest.startswith("sha256:") and digest[7:] != found:
            raise WrongBytes(f"what came has the SHA-256 {found}, and asked for was {digest[7:]}")

    def _get(self, path: str, most: int, accept: str) -> bytes:
        url = f"{self._of.base}/{path}"
        for _ in range(2):
            parts: list[bytes] = []
            headers = {"accept": accept, **self.headers}
            try:
                self._session.fetch(url, most, parts.append, headers=headers, elsewhere=True)
            except Answered as refused:
                if refused.status != 401 or self.headers or not refused.challenge:
                    raise
                self._introduce(refused.challenge)
                continue
            return b"".join(parts)
        raise Odd("it wants somebody to log in")

    def _introduce(self, challenge: str) -> None:
        """Get a token that reads what everybody may read (https://distribution.github.io/distribution/spec/auth)."""
        said = dict(_CHALLENGE.findall(challenge[:4096]))
        realm = urlsplit(said.get("realm", ""))
        plain = realm.scheme == "http" and realm.hostname in _LOOPBACK
        if not challenge.lower().startswith("bearer ") or not (plain or realm.scheme == "https"):
            raise Odd("it wants somebody to log in")
        asked = {"service": said.get("service", ""), "scope": f"repository:{self._of.name}:pull"}
        data = self._session.get(f"{realm.geturl()}?{urlencode(asked)}", _MAX_TOKEN)
        found = read_answer(data, _Token, str(self._of))
        self.headers = {"authorization": f"Bearer {found.token or found.access_token}"}
