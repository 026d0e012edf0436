"""Answers that are none: too much, too little, elsewhere, compressed, deep, of the wrong kind."""

import asyncio
import gzip
import json
import os
import zlib

import pytest
from command import frys
from tampering import Reply, headers, lie, moved

from frys_runtime import RegistryError

TIMESTAMP, PACKAGE, API = r"/timestamp\.json", r"/tuf/targets/.*\.frys$", r"^/api/v1/"

DEEP = b"[" * 200_000 + b"]" * 200_000


def signed(extra):
    """A timestamp that says more than it should."""
    return lambda reply, _: Reply(body=reply.body.replace(b'"signed":{', b'"signed":{"x":' + extra + b",", 1))


MALFORMED = {
    "nothing": lie(body=b""),
    "half": lie(body=b'{"signatures": [{'),
    "no JSON": lie(body=b"<html>Log in to the hotel's network</html>"),
    "no UTF-8": lie(body=b'{"signed": "\xff\xfe"}'),
    "a list": lie(body=b"[]"),
    "null": lie(body=b"null"),
    "a number": lie(body=b"1" * 5000),
    "no number": lie(body=b"NaN"),
    "wrong types": lie(body=b'{"signatures": 1, "signed": []}'),
    "wrong inside": lie(body=b'{"signatures": [], "signed": {"_type": ["timestamp"], "version": {}}}'),
    "another role": lie(body=b'{"signatures": [], "signed": {"_type": "root"}}'),
    "a surrogate": signed(rb'"\ud800"'),
    "a fraction": signed(b"1.5"),
    "a bit deep": signed(b"[" * 900 + b"]" * 900),
    "deeper": signed(b'{"a":' * 1500 + b"1" + b"}" * 1500),
    "very deep": lie(body=DEEP[:8000] + DEEP[-8000:]),
    "twice": lambda reply, _: Reply(
        body=reply.body.replace(b'"signatures":[', b'"signatures":[{"keyid":1},', 1)
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("path", [TIMESTAMP, r"/\d+\.root\.json"], ids=["timestamp", "root"])
def test_metadata_that_is_none(victim, proxy, publish, plugin, path, kind):
    """Whatever stands where metadata should be is refused in a sentence, and the next honest try succeeds."""
    publish(plugin) if kind == "nothing" else None
    before = victim.state()
    proxy.tell(path, MALFORMED[kind])
    with pytest.raises(RegistryError) as refused:
        asyncio.run(victim.registry.versions(plugin))
    assert refused.value.attack in ("arbitrary software", "wrong keys", "endless data"), refused.value
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1500
    assert victim.state() == before
    proxy.honest()
    asyncio.run(victim.registry.versions(plugin))


def test_a_first_root_that_is_none(proxy, victim_of, live, prey):
    """On first use, what is no root is refused as an answer, not as a setting, and a mirror is asked."""
    proxy.tell(r"/1\.root\.json", lie(body=b"<html>"))
    victim = victim_of(proxy.url, root=None, trust_on_first_use=True)
    victim.refuses(prey, "", "is no root of a TUF repository")
    both = victim_of(proxy.url, "both", root=None, trust_on_first_use=True, mirrors=[live.url])
    assert both.install(prey) == {prey: "1.0.0"}


API_MALFORMED = {
    "nothing": b"",
    "html": b"<html>",
    "null": b"null",
    "a list": b"[]",
    "deep": DEEP,
    "a bit deep": b'{"plugins": ' + b"[" * 900 + b"]" * 900 + b', "total": 1}',
    "wrong types": b'{"plugins": {"id": 1}, "total": "many", "id": 5, "latest": [], "sha256": 1}',
    "negative": b'{"plugins": [], "total": -1, "id": "", "plugins": -1}',
    "huge number": b'{"plugins": [], "total": ' + b"9" * 6000 + b', "id": "x", "latest": {"version": 9}}',
    "no UTF-8": b'{"plugins": [{"id": "\xff\xfe"}], "total": 1, "id": "\xff"}',
    "too many": b'{"plugins": [' + b",".join([b'{"id": "x"}'] * 101) + b'], "total": 1}',
    "too long": json.dumps({"plugins": [{"id": "x" * 129}], "total": 1}).encode(),
    "control": b'{"plugins": [], "total": "\\u001b[2J"}',
}


def everything(registry, package):
    """Each question to the API."""
    yield registry.publish_plugin(package, token="frys_none")
    yield registry.search_plugins("any")
    yield registry.get_plugin("any")
    yield registry.stats()


@pytest.fixture
def small(packed, tmp_path):
    """A package to publish."""
    path = tmp_path / "prey-1.0.0.frys"
    path.write_bytes(packed)
    return path


@pytest.mark.parametrize("kind", API_MALFORMED)
def test_api_answers_that_are_none(victim, proxy, small, kind):
    """Search, plugin, statistics, publishing: an answer of another kind is one harmless sentence."""
    proxy.tell(API, lie(status=200, body=API_MALFORMED[kind]))
    for question in everything(victim.registry, small):
        with pytest.raises(RegistryError, match="something else than a registry does") as refused:
            asyncio.run(question)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", DEEP[:60_000], b'{"detail": 5}', b'{"detail": "\\u001b]0;x\\u0007\\u202e"}',
     b'{"detail": "' + b"x" * 60_000 + b'"}', b'{"detail": "\xff"}', b"x" * 200_000],
    ids=range(9),
)  # fmt: skip
def test_errors_that_are_none(victim, proxy, plugin, body):
    """Whatever a refusal says, it is a short sentence that drives no terminal."""
    problem = {"content-type": "application/problem+json"}
    for status in (404, 503):
        proxy.tell("", lie(status=status, headers=problem, body=body))
        for question in (victim.registry.search_plugins(), victim.registry.versions(plugin)):
            with pytest.raises(RegistryError) as refused:
                asyncio.run(question)
            assert str(refused.value).isprintable()
            assert len(str(refused.value)) < 1200


def test_compressed_answers(victim, proxy, prey):
    """Compressed bytes, which nobody asked for, are not expanded: a bomb stays as small as it came."""
    bomb = gzip.compress(b" " * (64 << 20))
    for encoding, body in (
        ("gzip", bomb),
        ("deflate", zlib.compress(b"{}")),
        ("br", b"x"),
        ("identity, gzip", bomb),
    ):
        for path in (TIMESTAMP, PACKAGE):
            proxy.tell(path, lie(headers={"content-encoding": encoding}, body=body))
            victim.refuses(prey, "", "compressed bytes, which nobody asked for")
            proxy.honest()
        proxy.tell(API, lie(headers={"content-encoding": encoding}, body=body))
        with pytest.raises(RegistryError, match="compressed bytes"):
            asyncio.run(victim.registry.search_plugins())
        proxy.honest()
    problem = {"content-type": "application/problem+json", "content-encoding": "gzip"}
    proxy.tell("", lie(status=500, headers=problem, body=bomb))
    with pytest.raises(RegistryError, match="answered 500"):
        asyncio.run(victim.registry.search_plugins())
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}


FLOODS = {
    "many": b"".join(b"x-%d: y\r\n" % n for n in range(100_000)),
    "long": b"x: " + b"y" * (1 << 20) + b"\r\n",
    "no colon": b"nonsense\r\n",
    "control": b"x: \0\x1b[2J\r\n",
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n",
    "negative length": b"content-length: -5\r\n",
    "length and chunks": b"content-length: x\r\ntransfer-encoding: chunked\r\n",
    "odd coding": b"transfer-encoding: gzip, chunked\r\n",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_headers_that_are_none(victim, proxy, prey, kind):
    """Floods of headers and odd ones end the transfer in a sentence."""
    for path in (TIMESTAMP, API):
        proxy.tell(path, lie(raw=b"HTTP/1.1 200 OK\r\n" + FLOODS[kind] + b"\r\n", body=b"{}{}{}"))
    victim.refuses(prey, "", "broke off")
    with pytest.raises(RegistryError, match="broke off"):
        asyncio.run(victim.registry.search_plugins("any"))
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}


@pytest.mark.parametrize(
    ("raw", "story"),
    [
        (b"", "broke off"), (b"\r\n" * 40000, "broke off"),
        (b"HTTP/9.9 200 OK\r\n\r\n", "broke off|cannot be read"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "broke off"), (b"HTTP/1.1 999999 X\r\n\r\n", "broke off"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "broke off|answered 101"),
        (b"HTTP/1.1 206 Part\r\ncontent-length: 2\r\ncontent-range: bytes 5-6/7\r\n\r\n{}",
         "not the one that was"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}", "broke off"),
        (b"HTTP/1.1 304 Same\r\n\r\n", "answered 304"),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", "cannot be read|broke"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_http(victim, proxy, plugin, raw, story):
    """Another protocol, or half of this one, is a sentence."""
    proxy.tell("", lie(raw=raw, body=b""))
    with pytest.raises(RegistryError, match=story):
        asyncio.run(victim.registry.versions(plugin))
    with pytest.raises(RegistryError):
        asyncio.run(victim.registry.search_plugins("any"))


def test_a_wrong_content_length(victim, proxy, prey, packed):
    """Less than announced is told and gone on with; more than announced is never read."""
    data = packed
    proxy.tell(PACKAGE, lie(length=len(data), cut=len(data) // 2))
    victim.refuses(prey, "", "broke off")
    (part,) = (victim.folder / "cache").rglob("*.part")
    assert part.stat().st_size == len(data) // 2
    proxy.tell(PACKAGE, lambda reply, _: Reply(206, reply.headers, reply.body, len(reply.body) - 1))
    victim.refuses(prey, "", "ended after|broke off")
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}
    assert victim.market.path(prey).read_bytes() == data
    assert not list((victim.folder / "cache").rglob("*.part*"))


@pytest.mark.parametrize("cuts", [[1], [1, 300], [100, 101, 500], [0, 600]], ids=str)
def test_truncated_transfers_go_on(victim, proxy, prey, packed, cuts):
    """A package that breaks off anywhere is gone on with from there, and verified as a whole."""
    data = packed
    for cut in cuts:
        proxy.tell(PACKAGE, lambda reply, asked, cut=cut: lie(
            length=len(reply.body), cut=max(cut - start_of(asked), 0)
        )(reply, asked))  # fmt: skip
        victim.refuses(prey, "", "broke off")
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}
    assert victim.market.path(prey).read_bytes() == data


def start_of(asked):
    """From which byte on something is asked for."""
    return int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


def test_a_poisoned_beginning_is_dropped(victim, proxy, prey, packed):
    """A wrong beginning with the right ETag does not spoil what an honest registry sends after it."""
    data = packed
    proxy.tell(PACKAGE, lambda reply, _: Reply(200, reply.headers, b"\0" * len(data), len(data), 100))
    victim.refuses(prey, "", "broke off")
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}
    assert victim.market.path(prey).read_bytes() == data


def test_a_wrong_rest_is_dropped(victim, proxy, prey, packed):
    """After a right beginning, a wrong rest is refused, all of it is forgotten, and fetched anew."""
    data = packed
    proxy.tell(PACKAGE, lie(length=len(data), cut=100))
    victim.refuses(prey, "", "broke off")
    proxy.tell(PACKAGE, lambda reply, _: Reply(reply.status, reply.headers, b"\0" * len(reply.body)))
    victim.refuses(prey, "arbitrary software", "the bytes that came have the SHA-256")
    assert not list((victim.folder / "cache").rglob("*.part*"))
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}


@pytest.mark.parametrize(
    ("location", "story"),
    [
        ("http://192.0.2.1/elsewhere", "sent us on to http://192.0.2.1, which nobody named"),
        ("https://192.0.2.1/elsewhere", "sent us on to https://192.0.2.1, which nobody named"),
        ("//192.0.2.1/elsewhere", "which nobody named"),
        ("http://169.254.169.254/latest/meta-data", "which nobody named"),
        ("http://127.0.0.1:1/", "which nobody named"),
        ("http://localhost/", "which nobody named"),
        ("http://user:secret@192.0.2.1/", "which nobody named"),
        ("file:///etc/passwd", "which nobody named|address that is none"),
        ("data:,x", "broke off"),
        ("gopher://x/", "which nobody named|address that is none"),
        ("http://[::1", "broke off"),
        ("http://x:99999999/", "address that is none|which nobody named"),
        ("http://\xff\xfe/", "address that is none|which nobody named"),
        ("http://a b/", "address that is none|which nobody named"),
        ("/tuf/loop", "it sent us on more than 3 times"),
        ("?" + "x" * 60_000, "it sent us on more than 3 times|address that is none"),
    ],
)
def test_redirects(victim, proxy, prey, location, story):
    """Nobody is sent to another host, port or scheme, nor round in a circle."""
    proxy.tell("/tuf/", moved(location))
    error = victim.refuses(prey, "", story)
    assert "secret" not in str(error)
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}


def test_redirects_of_the_api_are_not_followed(victim, proxy, small):
    """Questions, and the token with them, go to the address that was named and nowhere else."""
    proxy.tell(API, moved("/api/v1/stats"))
    for question in everything(victim.registry, small):
        with pytest.raises(RegistryError, match="answered 302"):
            asyncio.run(question)
    assert all(path.startswith("/api/v1/") for path in proxy.asked)
    assert len(proxy.asked) == 4


def test_a_redirect_on_the_same_server(victim, proxy, prey, packed):
    """A package that is elsewhere on the same server is found, and verified as always."""
    data = packed

    def there(reply, asked):
        return reply if "?" in asked.path else moved(f"{asked.path}?there")(reply, asked)

    proxy.tell(PACKAGE, there)
    assert victim.install(prey) == {prey: "1.0.0"}
    assert victim.market.path(prey).read_bytes() == data


def test_cookies_and_other_gifts_are_not_kept(victim, proxy, prey):
    """What a server asks a browser to keep or to load is no business of this client."""
    got = []

    def gift(reply, asked):
        got.append(asked.headers.get("cookie"))
        return headers(
            set_cookie="who=you; Path=/", refresh="0; url=http://192.0.2.1", alt_svc='h2="192.0.2.1:1"'
        )(reply, asked)

    proxy.tell("", gift)
    assert victim.install(prey) == {prey: "1.0.0"}
    assert len(got) > 5
    assert set(got) == {None}


def test_who_takes_a_package_says_which(victim, proxy, small):
    """A server that says it published other bytes than those that were sent is not believed."""
    told = {"id": "prey", "version": "1.0.0", "sha256": "0" * 64}
    proxy.tell(API, lie(body=json.dumps(told).encode()))
    with pytest.raises(RegistryError, match=r"and .* was sent"):
        asyncio.run(victim.registry.publish_plugin(small, token="frys_none"))


@pytest.fixture(scope="module")
def copied(live, packed, tmp_path_factory):
    """The registry as a folder."""
    folder = tmp_path_factory.mktemp("copied") / "copy"
    done = frys("registry", "export", live.folder, folder)
    assert done.returncode == 0, done.stderr.decode()
    assert packed
    return folder


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop", "huge", "nothing"])
def test_a_folder_that_lies(copied, prey, victim_of, kind):
    """A folder as a registry: what is no file, never ends or is not there is told, and holds up nobody."""
    victim = victim_of(copied)
    (path,) = copied.rglob("timestamp.json")
    kept = path.rename(path.with_name("kept"))
    {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "huge": lambda: (path.touch(), os.truncate(path, 1 << 40)),
        "nothing": lambda: None,
    }[kind]()
    with pytest.raises(RegistryError, match=r"is no file|cannot be read|there can be|there is no file"):
        asyncio.run(victim.market.install(prey))
    path.rmdir() if kind == "folder" else path.unlink(missing_ok=True)
    kept.rename(path)
    assert victim.install(prey) == {prey: "1.0.0"}
