"""The attacks of the TUF specification by name, by somebody between a registry and its client, without keys.

https://theupdateframework.github.io/specification/latest/#goals-to-protect-against-specific-attacks
"""

import datetime
import json
import re
from types import SimpleNamespace

import pytest
from tampering import Reply, edited, lie
from tuf.ngclient._internal import trusted_metadata_set

from frys_runtime.registry import attacks, repository

TIMESTAMP, SNAPSHOT, TARGETS = r"/timestamp\.json", r"/\d+\.snapshot\.json", r"/\d+\.targets\.json"
PUBLISHER, ROOT = r"/\d+\.publisher-1\.json", r"/\d+\.root\.json"
INDEX, PACKAGE = r"\.index\.json", r"/tuf/targets/.*\.frys$"


def withstood(victim, proxy, plugin, attack, match, version=None):
    """It is refused by name, nothing changes, and the next honest try succeeds."""
    error = victim.refuses(plugin, attack, match, version)
    proxy.honest()
    assert plugin in victim.install(plugin, version)
    return error


def newer(document):
    """Say that it is a newer version, which nobody signed."""
    document["signed"]["version"] += 1


@pytest.mark.parametrize(
    ("path", "change", "attack", "story"),
    [
        (PACKAGE, lie(body=b"PK\3\4 something else"), "", "it ended after 19 of"),
        (PACKAGE, lambda reply, _: Reply(body=reply.body[:-1] + b"?"), "arbitrary software", "SHA-256"),
        (
            INDEX,
            lambda reply, _: Reply(body=reply.body[:-1] + b" "),
            "arbitrary software",
            "not those that are",
        ),
        (TIMESTAMP, edited(newer), "wrong keys", "not signed by the keys"),
        (SNAPSHOT, edited(newer), "mix-and-match", "whose hash is signed"),
        (TARGETS, edited(newer), "wrong keys", "not signed by the keys"),
        (PUBLISHER, edited(newer), "wrong keys", "not signed by the keys"),
    ],
    ids=["package", "one byte of it", "versions", "timestamp", "snapshot", "targets", "publisher"],
)
def test_arbitrary_software(victim, proxy, prey, path, change, attack, story):
    """Bytes that nobody signed, as a package or as metadata, are refused wherever they come."""
    proxy.tell(path, change)
    withstood(victim, proxy, prey, attack, story)


@pytest.mark.parametrize("path", [ROOT, TIMESTAMP, SNAPSHOT, TARGETS, PUBLISHER, INDEX, PACKAGE])
def test_endless_data(victim, proxy, prey, path):
    """An answer that never ends stops at the bound of its file, whatever the file."""
    proxy.tell(path, lie(length=-1, endless=True, status=200, body=b" " * 65536))
    withstood(victim, proxy, prey, "endless data", "it sends more than the")
    held = sum(path.stat().st_size for path in (victim.folder / "cache").rglob("*") if path.is_file())
    assert held < 1 << 20


def test_announced_sizes_are_not_waited_for(victim, proxy, prey):
    """Who announces a terabyte is refused before the first byte of it."""
    proxy.tell(PACKAGE, lie(length=1 << 40, cut=0))
    withstood(victim, proxy, prey, "endless data", "it announces 1099511627776 bytes")


def test_extraneous_dependencies(victim, proxy, publish, plugin):
    """A dependency that somebody wrote into the list of versions is not installed."""
    publish(plugin)
    publish("extraneous")

    def depends(document):
        document["versions"][0]["dependencies"] = [{"id": "extraneous"}]
        del document["versions"][0]["published"]  # so that it is not longer than what is signed

    proxy.tell(rf"{plugin}/[0-9a-f]+{INDEX}", edited(depends))
    withstood(victim, proxy, plugin, "arbitrary software", "not those that are signed")
    assert "extraneous" not in victim.versions()


def test_fast_forward_without_keys(victim, proxy, prey):
    """A version number far in the future that nobody signed is not taken, so it does no harm later."""

    def far(document):
        document["signed"]["version"] = 1 << 40

    proxy.tell(TIMESTAMP, edited(far))
    withstood(victim, proxy, prey, "wrong keys", "not signed by the keys")


def clock(monkeypatch, **away):
    """Set the clock of the client to another time."""

    class Other(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(**away)

    other = SimpleNamespace(datetime=Other, timezone=datetime.timezone)
    monkeypatch.setattr(trusted_metadata_set, "datetime", other)
    monkeypatch.setattr(repository, "datetime", Other)
    monkeypatch.setattr(attacks, "datetime", Other)


def test_indefinite_freeze(victim, proxy, publish, plugin, monkeypatch):
    """Answers of yesterday are believed until they expire, and are then refused as a freeze."""
    publish(plugin)
    victim.install(plugin)
    tape = proxy.tape
    publish(plugin, "1.1.0")
    proxy.replay(tape=tape)
    assert victim.install(plugin, "*") == {plugin: "1.0.0"}  # what TUF allows: the lifetime of the timestamp
    with monkeypatch.context() as later:
        clock(later, days=2)
        error = victim.refuses(plugin, "freeze", "metadata that has expired", "^1.1")
        assert "Check this machine's clock" in error.reason
    proxy.honest()
    assert victim.install(plugin, "^1.1") == {plugin: "1.1.0"}


def test_freeze_by_nothing_new(victim, victim_of, proxy, publish, plugin, monkeypatch):
    """Who says for ever that nothing has changed (304) is believed until what is there expires: a freeze."""
    publish(plugin)
    victim.install(plugin)
    publish(plugin, "1.1.0")
    proxy.tell(TIMESTAMP, lie(status=304, body=b""))
    assert victim.install(plugin, "*") == {plugin: "1.0.0"}
    with monkeypatch.context() as later:
        clock(later, days=2)
        victim.refuses(plugin, "freeze", "metadata that has expired", "^1.1")
    victim_of(proxy.url, "newcomer").refuses(plugin, "", "answered 304")
    proxy.honest()
    assert victim.install(plugin, "^1.1") == {plugin: "1.1.0"}


def test_old_bytes_under_the_etag_of_new_ones(victim, live, proxy, publish, plugin):
    """An old state that was once given the ETag of the new one is not confirmed by honest servers later."""
    publish(plugin)
    victim.install(plugin)
    (old,) = [reply.body for path, reply in proxy.tape.items() if path.endswith("/timestamp.json")]
    publish(plugin, "1.1.0")
    proxy.tell(TIMESTAMP, lie(body=old))  # under the new ETag, which the registry has said
    assert victim.install(plugin, "*") == {plugin: "1.0.0"}
    proxy.honest()
    assert victim.install(plugin, "^1.1") == {plugin: "1.1.0"}


def test_a_clock_that_is_wrong(victim, proxy, prey, monkeypatch):
    """A clock in the future gets the sentence of a freeze with its time; one in the past still verifies."""
    with monkeypatch.context() as later:
        clock(later, days=4000)
        error = victim.refuses(prey, "freeze", "has expired")
        year = datetime.datetime.now(datetime.UTC).year + 10
        assert re.search(rf"clock, which says {year}|clock, which says {year + 1}", error.reason)
    with monkeypatch.context() as earlier:
        clock(earlier, days=-4000)
        assert victim.install(prey) == {prey: "1.0.0"}
    proxy.tell(PACKAGE, lie(body=b"x"))
    assert victim.install(prey) == {prey: "1.0.0"}


LIES = {
    "other bytes": (PACKAGE, lie(body=b"PK")),
    "other metadata": (TIMESTAMP, edited(newer)),
    "endless": (SNAPSHOT, lie(length=-1, endless=True)),
    "broken": ("", lie(raw=b"\0\1\2\3\r\n\r\n", body=b"")),
    "malformed": (TIMESTAMP, lie(body=b"{")),
    "silent": (TIMESTAMP, lie(pause=60)),
    "unwilling": ("", lie(status=500, body=b"")),
    "nothing there": ("", lie(status=404, body=b"")),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_malicious_mirror_among_good_ones(live, proxy, victim_of, prey, packed, kind):
    """Whatever one mirror does, the install succeeds through the others, wherever it stands."""
    data = packed
    proxy.tell(*LIES[kind])
    for name, first, second in (("a", proxy.url, live.url), ("b", live.url, proxy.url)):
        victim = victim_of(first, name, mirrors=[second])
        assert victim.install(prey) == {prey: "1.0.0"}
        assert victim.market.path(prey).read_bytes() == data


@pytest.mark.parametrize("name", [r"snapshot", r"publisher-1"])
def test_mix_and_match(victim, proxy, publish, plugin, name):
    """A file of an older state, put into a newer one, is refused: files are of one state or of none."""
    publish(plugin)
    victim.install(plugin)
    pattern = re.compile(rf"/(\d+)\.{name}\.json")
    old = max((path for path in proxy.tape if pattern.search(path)), key=lambda p: int(pattern.search(p)[1]))
    stale = proxy.tape[old]
    publish(plugin, "1.1.0")
    proxy.tell(pattern.pattern, lambda _reply, _asked: stale)
    withstood(victim, proxy, plugin, "mix-and-match", "of different states|whose hash is signed", "^1.1")


def test_rollback_of_everything(victim, proxy, publish, plugin):
    """Who has seen a newer state refuses the older one, signed as it is."""
    publish(plugin)
    victim.install(plugin)
    tape = proxy.tape
    publish(plugin, "1.1.0")
    victim.install(plugin, "=1.1.0")
    proxy.replay(tape=tape)
    withstood(victim, proxy, plugin, "rollback", "older metadata than this machine has seen", "^1")


def test_rollback_of_a_package(victim, proxy, publish, plugin):
    """The older package at the place of the newer one is refused, signed as it was once."""
    old = publish(plugin)
    publish(plugin, "1.1.0")
    proxy.tell(rf"{plugin}-1\.1\.0\.frys", lie(body=old))
    victim.refuses(plugin, "arbitrary software", "SHA-256|bytes", "^1.1")
    proxy.honest()
    assert victim.install(plugin) == {plugin: "1.1.0"}


@pytest.mark.parametrize("path", [TIMESTAMP, PUBLISHER, PACKAGE])
def test_slow_retrieval(victim, hasty, proxy, prey, path):
    """A byte now and then does not hold up a client for ever; the next try goes on."""
    proxy.tell(path, lie(pause=0.1))
    hasty.refuses(prey, "slow retrieval", "nothing fast enough to wait for")
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}


def test_slow_retrieval_of_headers(victim, hasty, proxy, prey):
    """Headers that never end, and provisional answers without number, end as well."""
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    for what in (
        lie(raw=b"HTTP/1.1 200 OK\r\nx: ", body=b"y" * 40, pause=0.5),
        lie(raw=early, body=early, endless=True),
    ):
        proxy.tell(TIMESTAMP, what)
        hasty.refuses(prey, "slow retrieval", "fast enough to wait for|nothing came for")
    proxy.honest()
    assert victim.install(prey) == {prey: "1.0.0"}


def test_wrong_software_installation(victim, proxy, publish, plugin):
    """Another plugin's package, or its list of versions, at this plugin's place is refused."""
    publish(plugin)
    other = publish(plugin.replace("prey", "crow"))
    proxy.tell(rf"{plugin}-1\.0\.0\.frys", lie(body=other))
    withstood(victim, proxy, plugin, "arbitrary software", "SHA-256|bytes")
    versions = json.dumps({"id": plugin.replace("prey", "crow"), "versions": []}).encode()
    publish(plugin, "1.1.0")
    proxy.tell(rf"{plugin}/[0-9a-f]+{INDEX}", lie(body=versions))
    withstood(victim, proxy, plugin, "arbitrary software", "not those that are signed", "^1.1")
