"""What holds for every request: caches, ranges, limits, deadlines, errors, and how the process ends."""

import contextlib
import json
import random
import socket
import threading

import jsonschema
import live_registry
import pytest
from live_registry import publish
from openapi_spec_validator import validate


def test_caches_are_told_when_nothing_changed(registry, make_package):
    """An ETag that is sent back gets 304 without a body, until somebody publishes."""
    with registry.client(registry.admin) as client:
        data = make_package("cached")
        assert publish(client, data).status_code == 201
        for path in ("/plugins/cached", "/plugins/cached/versions/1.0.0/download"):
            first = client.get(path)
            same = client.get(path, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
            assert (same.status_code, same.content) == (304, b"")
            assert "max-age" in first.headers["cache-control"]
        before = client.get("/plugins/cached").headers["etag"]
        assert publish(client, make_package("cached", "1.0.1")).status_code == 201
        assert client.get("/plugins/cached", headers={"if-none-match": before}).status_code == 200
        assert "no-store" in client.get("/whoami").headers["cache-control"]


def test_a_broken_download_goes_on_where_it_ended(registry, make_package):
    """Ranges give the rest of a package, If-Range all of it when it is another one, HEAD its size."""
    with registry.client(registry.admin) as client:
        data = make_package("resumed")
        assert publish(client, data).status_code == 201
        path = "/plugins/resumed/versions/1.0.0/download"
        etag = client.head(path).headers["etag"]
        rest = client.get(path, headers={"range": "bytes=100-", "if-range": etag})
        other = client.get(path, headers={"range": "bytes=100-", "if-range": '"another"'})

        assert int(client.head(path).headers["content-length"]) == len(data)
        assert (rest.status_code, rest.content) == (206, data[100:])
        assert (other.status_code, other.content) == (200, data)
        assert client.get(path, headers={"range": f"bytes={len(data)}-"}).status_code == 416


def test_downloads_are_counted_once_each(registry, make_package):
    """Whole downloads count, by whichever way; the rest of a broken one and HEAD do not."""
    with registry.client(registry.admin) as client:
        assert publish(client, make_package("counted")).status_code == 201
        path = "/plugins/counted/versions/1.0.0/download"
        client.head(path)
        client.get(path, headers={"range": "bytes=10-"})
        for _ in range(3):
            client.get(path)
        digest = client.get("/plugins/counted/versions/1.0.0").json()["sha256"]
        assert client.get(f"{registry.url}/v2/counted/blobs/sha256:{digest}").status_code == 200
        for _ in range(500):
            count = client.get("/plugins/counted/versions/1.0.0").json()["downloads"]
            if count:
                break
            threading.Event().wait(0.02)
    assert count == 4


def test_errors_are_problems_with_a_way_out(registry):
    """What is not there, not allowed or not understood is answered as RFC 9457 has it, with a sentence."""
    with registry.client(registry.admin) as client:
        for method, path, status in (
            ("GET", "/plugins/nothing-like-it", 404),
            ("GET", "/nowhere", 404),
            ("POST", "/search", 405),
            ("GET", "/search?sort=best", 400),
            ("GET", "/search?unknown=1", 400),
            ("GET", "/search?cursor=zzz", 400),
            ("PUT", "/plugins/nothing-like-it/deprecation", 404),
        ):
            answer = client.request(method, path)
            problem = answer.json()
            assert (answer.status_code, problem["status"]) == (status, status), path
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(problem["detail"].split()) > 3
        wrong = client.post("/tokens", content=b'{"publisher": 1, "scopes": []}')
        assert (wrong.status_code, client.post("/tokens", content=b"{nonsense").status_code) == (422, 400)


def test_the_openapi_document_is_valid_and_holds(registry, make_package):
    """The document is OpenAPI 3.1, and answers are as it describes them."""
    with registry.client(registry.admin) as client:
        document = client.get(f"{registry.url}/openapi.json").json()
        validate(document)
        assert publish(client, make_package("described", readme="# x")).status_code == 201
        schemas = {"components": document["components"]}
        for path, of in (
            ("/", "/api/v1/"),
            ("/search?q=described", "/api/v1/search"),
            ("/plugins/described", "/api/v1/plugins/{id}"),
            ("/plugins/described/versions", "/api/v1/plugins/{id}/versions"),
            ("/plugins/described/versions/latest", "/api/v1/plugins/{id}/versions/{version}"),
            ("/stats", "/api/v1/stats"),
            ("/tokens", "/api/v1/tokens"),
        ):
            described = document["paths"][of]["get"]["responses"]["200"]["content"]["application/json"][
                "schema"
            ]
            jsonschema.validate(client.get(path).json(), {**described, **schemas})


def test_health_and_metrics_tell_how_it_goes(registry):
    """The health says ok, and the metrics count requests and name the expiry of the metadata."""
    with registry.client() as client:
        assert client.get(f"{registry.url}/healthz").json() == {"status": "ok", "warnings": []}
        metrics = client.get(f"{registry.url}/metrics").text
    assert 'frys_registry_metadata_expires_seconds{role="timestamp"}' in metrics
    assert "frys_registry_requests_total{" in metrics


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A registry whose limits are small."""
    folder = live_registry.make(
        tmp_path_factory.mktemp("strict") / "r",
        readsPerSecond=5, readsBurst=60, writesPerMinute=1, writesBurst=6, maxPackage=20000,
        maxConnectionsPerAddress=30, headerTimeout=1, transferTimeout=1,
    )  # fmt: skip
    with live_registry.serving(folder) as live:
        yield live


def test_too_much_and_too_slow_is_cut_off(strict, make_package):
    """Too large packages, too slow senders and too many connections end, and others go on."""
    address = ("127.0.0.1", int(strict.url.rpartition(":")[2]))
    with strict.client(strict.admin) as client:
        large = make_package("large", readme="x" * 30000)
        assert publish(client, large).status_code == 413

        def pieces():
            yield b'--x\r\nContent-Disposition: form-data; name="package"\r\n\r\n'
            for _ in range(100):
                yield b"x" * 1000

        form = {"content-type": "multipart/form-data; boundary=x"}
        assert client.post("/plugins", content=pieces(), headers=form).status_code == 413
        assert publish(client, make_package("medium", readme="x" * 15000)).status_code == 201
    assert not list((strict.folder / "incoming").iterdir())

    with socket.create_connection(address) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-More: ")
        slow.settimeout(30)
        assert _ends(slow)
    with socket.create_connection(address) as slow:
        slow.settimeout(30)
        slow.sendall(
            f"POST /api/v1/plugins HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {strict.admin}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n\r\n--x".encode()
        )
        assert b" 408 " in slow.recv(1000).splitlines()[0]
    with socket.create_connection(address) as greedy:
        greedy.settimeout(30)
        greedy.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-More: " + b"x" * 40000)
        assert b" 4" in greedy.recv(1000).splitlines()[0]
    many = [socket.create_connection(address) for _ in range(40)]
    for connection in many[30:]:
        connection.settimeout(30)
    assert all(_ends(connection) for connection in many[30:])
    for connection in many:
        connection.close()
    with strict.client() as client:
        assert client.get("/stats").status_code == 200


def test_who_does_not_read_is_cut_off(tmp_path):
    """A client that asks for a large package and does not take it loses its connection; others go on."""
    folder = live_registry.make(tmp_path / "r", transferTimeout=0.5)
    noise = random.Random(1).randbytes(6 << 20).hex()
    with live_registry.serving(folder) as live, live.client(live.admin) as client:
        assert publish(client, live_registry.package(tmp_path, "large", readme=noise)).status_code == 201
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.settimeout(30)
            idle.connect(("127.0.0.1", int(live.url.rpartition(":")[2])))
            path = "/plugins/large/versions/1.0.0/download"
            idle.sendall(f"GET /api/v1{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for _ in range(500):
                metrics = client.get(f"{live.url}/metrics").text
                if 'part="api",status="200"} 1.0' in metrics and "requests_open 1.0" in metrics:
                    break
                threading.Event().wait(0.02)
            taken = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := idle.recv(1 << 20):
                    taken += len(chunk)
            assert taken < 12 << 20
        assert len(client.get(path).content) > 12 << 20


def _ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_whoever_asks_too_often_waits(strict):
    """Too many requests, changes or wrong tokens get 429 and the seconds to wait."""
    with strict.client(strict.token("busy", "publish:busy-*")) as busy:
        answers = [busy.get("/whoami") for _ in range(8)]
        limited = next(answer for answer in answers if answer.status_code == 429)
        assert int(limited.headers["retry-after"]) > 0
    with strict.client("frys_000000000000_" + "x" * 43) as guesser:
        codes = [guesser.get("/whoami").status_code for _ in range(22)]
        assert codes[:20] == [401] * 20
        assert codes[-1] == 429
    with strict.client() as client:
        codes = [client.get("/stats").status_code for _ in range(60)]
    assert codes[-1] == 429


def test_sigterm_ends_it_cleanly(tmp_path, make_package):
    """SIGTERM ends the process with 0, nothing complains, and the counts of downloads are in the database."""
    folder = live_registry.make(tmp_path / "r")
    with live_registry.serving(folder) as live:
        admin = live.admin
        with live.client(admin) as client:
            assert publish(client, make_package("last-words")).status_code == 201
            client.get("/plugins/last-words/versions/1.0.0/download")
        second = live_registry.frys("registry", "serve", folder, "--port", "0")
        assert (second.returncode, b"another process" in second.stderr) == (2, True)
        assert live.stop() == 0
    assert folder.with_name("r.log").read_text() == ""
    with live_registry.serving(folder, admin=admin) as live, live.client() as client:
        assert client.get("/plugins/last-words").json()["downloads"] == 1
        assert json.loads(client.get("/log").text.splitlines()[-1])["kind"] == "publish"
