"""Publishing: what is taken from whom, all of it or nothing."""

import contextlib
import random
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import live_registry
import pytest
from live_registry import publish


def test_a_published_version_can_be_found_and_fetched(registry, make_package):
    """What was published is in the catalogue with what its plugin.json says, and comes back byte for byte."""
    data = make_package(
        "first-one",
        description="Doubles numbers",
        license="MIT",
        permissions=["Read"],
        dependencies=[{"pluginId": "other", "versionRange": "^1.2"}],
        readme="# Read me\n",
    )
    with registry.client(registry.token("acme", "publish:first-*")) as acme, registry.client() as anybody:
        done = publish(acme, data)
        assert done.status_code == 201, done.text
        detail = anybody.get("/plugins/first-one").json()
        version = anybody.get("/plugins/first-one/versions/latest").json()
        fetched = anybody.get("/plugins/first-one/versions/1.0.0/download")

    assert fetched.content == data
    assert fetched.headers["etag"] == f'"{done.json()["sha256"]}"'
    assert (detail["description"], detail["owners"], detail["readme"]) == (
        "Doubles numbers",
        ["acme"],
        "# Read me\n",
    )
    assert version["dependencies"] == [{"id": "other", "range": "^1.2", "optional": False}]
    assert version["metadata"]["permissions"] == ["Read"]
    assert {file["path"] for file in version["files"]} == {"plugin.json", "main.py", "README.md"}


def test_versions_never_change(registry, make_package, tmp_path):
    """A version that is there is refused, also with other build metadata; the old bytes stay."""
    first = make_package("fixed", "1.0.0")
    with registry.client(registry.admin) as admin:
        assert publish(admin, first).status_code == 201
        again = publish(admin, first)
        (tmp_path / "other").mkdir()
        other = live_registry.package(tmp_path / "other", "fixed", "1.0.0", description="other")
        replaced = publish(admin, other)
        build = publish(admin, make_package("fixed", "1.0.0+build"))

        assert [again.status_code, replaced.status_code, build.status_code] == [409] * 3
        assert "with these very bytes" in again.json()["detail"]
        assert admin.get("/plugins/fixed/versions/1.0.0/download").content == first
        assert len(admin.get("/plugins/fixed/versions").json()["versions"]) == 1
    held = [path.name for path in (registry.folder / "blobs").glob("*/*")]
    assert not list((registry.folder / "incoming").iterdir())
    assert replaced.json()["title"] == "Conflict"
    assert len(held) == len(set(held))


def test_of_two_at_once_one_wins(registry, make_package):
    """Many who publish the same version at the same time: one gets 201, all others 409."""
    data = make_package("raced")
    start = threading.Barrier(8)

    def race(_: int) -> int:
        with registry.client(registry.admin) as admin:
            start.wait()
            return publish(admin, data).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(race, range(8)))

    assert codes == [201, *[409] * 7]


@pytest.mark.parametrize(
    ("taken", "asked"),
    [("my-plugin", "My_Plugin"), ("modern", "rnodem"), ("tool10", "too1lo"), ("view", "vievv"), ("Ia", "la")],
)
def test_no_two_ids_look_alike(registry, make_package, taken, asked):
    """An id that a person could take for another one is refused, and the error names the other."""
    with registry.client(registry.admin) as admin:
        assert publish(admin, make_package(taken)).status_code == 201
        refused = publish(admin, make_package(asked, "1.0.1"))

    assert refused.status_code == 409
    assert taken in refused.json()["detail"]


@pytest.mark.parametrize(
    ("plugin", "status"),
    [("frys", 403), ("F-r_y.s", 403), ("nul", 403), ("a..b", 422), ("a-", 422), ("x" * 65, 422)],
)
def test_some_ids_are_nobodys(registry, make_package, plugin, status):
    """Reserved ids, what looks like them, and ids that some clients could not name are refused."""
    with registry.client(registry.token("acme", "publish:*")) as acme:
        assert publish(acme, make_package(plugin)).status_code == status


def test_a_token_is_good_for_what_it_says(registry, make_package):
    """Wrong, revoked and narrower tokens are refused, and so is whoever does not own the plugin."""
    acme = registry.token("acme", "publish:scoped-*")
    with registry.client(acme) as client:
        assert publish(client, make_package("scoped-one")).status_code == 201
        assert publish(client, make_package("unscoped")).status_code == 403
        assert client.put("/plugins/scoped-one/versions/1.0.0/yank").status_code == 403
        assert client.post("/tokens", json={"publisher": "x", "scopes": ["admin"]}).status_code == 403
        name = acme.split("_")[1]
        assert [one["id"] for one in client.get("/tokens").json()["tokens"] if one["id"] == name] == [name]
        assert client.delete(f"/tokens/{name}").json() == {"changed": True}
        assert client.get("/whoami").status_code == 401
    with registry.client(registry.token("mallory", "publish:*")) as mallory:
        refused = publish(mallory, make_package("scoped-one", "1.0.1"))
        assert refused.status_code == 403
        assert "no owner" in refused.json()["detail"]
    with registry.client() as nobody:
        assert publish(nobody, make_package("unsigned-in")).status_code == 401
    assert acme.split("_", 2)[2].encode() not in (registry.folder / "registry.db").read_bytes()


def test_owners_share_a_plugin_and_one_always_stays(registry, make_package):
    """An added owner may publish; a removed one may not; the last one cannot be removed."""
    acme = registry.token("owner-a", "publish:*", "owners:*")
    other = registry.token("owner-b", "publish:*")
    with registry.client(acme) as a, registry.client(other) as b:
        assert publish(a, make_package("shared")).status_code == 201
        assert a.put("/plugins/shared/owners/nobody-known").status_code == 404
        assert a.put("/plugins/shared/owners/owner-b").json() == {"changed": True}
        assert publish(b, make_package("shared", "1.1.0")).status_code == 201
        assert a.delete("/plugins/shared/owners/owner-a").json() == {"changed": True}
        assert publish(a, make_package("shared", "1.2.0")).status_code == 403
        assert publish(b, make_package("shared", "1.3.0")).status_code == 201
        assert a.get("/plugins/shared/owners").json() == {"owners": ["owner-b"]}
    with registry.client(registry.admin) as admin:
        assert admin.delete("/plugins/shared/owners/owner-b").status_code == 409


def test_yanking_moves_the_latest_and_takes_nothing_away(registry, make_package):
    """A yanked version is no longer the latest, says why, can still be fetched, and comes back unyanked."""
    with registry.client(registry.admin) as admin:
        for version in ("1.0.0", "1.1.0", "2.0.0-beta.1"):
            assert publish(admin, make_package("yankee", version)).status_code == 201
        assert admin.get("/plugins/yankee").json()["latest"]["version"] == "1.1.0"
        assert admin.put("/plugins/yankee/versions/1.1.0/yank", json={"reason": "loses data"}).json()[
            "changed"
        ]
        assert admin.get("/plugins/yankee").json()["latest"]["version"] == "1.0.0"
        listed = {one["version"]: one for one in admin.get("/plugins/yankee/versions").json()["versions"]}
        assert (listed["1.1.0"]["yanked"], listed["1.1.0"]["yankedReason"]) == (True, "loses data")
        assert admin.get("/plugins/yankee/versions/1.1.0/download").status_code == 200
        assert admin.delete("/plugins/yankee/versions/1.1.0/yank").json() == {"changed": True}
        assert admin.delete("/plugins/yankee/versions/1.1.0/yank").json() == {"changed": False}
        assert admin.get("/plugins/yankee").json()["latest"]["version"] == "1.1.0"


def test_what_is_no_package_is_refused_with_a_reason(registry, make_package):
    """Other bytes, altered packages, wrong forms and envelopes of other packages are refused."""
    data = make_package("altered")
    spoiled = data.replace(b"2 * number", b"3 * number")
    envelope = (
        b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AA=="}]}'
    )
    with registry.client(registry.admin) as admin:
        assert publish(admin, b"PK\3\4 no package").status_code == 422
        assert publish(admin, spoiled).status_code == 422
        assert publish(admin, data, signature=b"{}").status_code == 422
        assert publish(admin, data, bundle=b'{"mediaType": "text/plain"}').status_code == 422
        assert publish(admin, data, signature=envelope).status_code == 422
        assert admin.post("/plugins", content=data).status_code == 415
        assert admin.post("/plugins", files={"other": data}).status_code == 400
        assert admin.post("/plugins", files={"signature": envelope}).status_code == 400
        truncated = b'--x\r\nContent-Disposition: form-data; name="package"\r\n\r\n' + data
        form = {"content-type": "multipart/form-data; boundary=x"}
        assert admin.post("/plugins", content=truncated, headers=form).status_code == 400
        assert admin.get("/plugins/altered").status_code == 404
    assert not list((registry.folder / "incoming").iterdir())


def test_odd_words_of_a_plugin_harm_nobody(registry, make_package):
    """Control characters, turned writing and line ends in a plugin.json are kept, found and shown as text."""
    odd = 'a\x00b\x1b[31m\u202e"<'
    needs = [{"pluginId": "other", "versionRange": "^1.0\n||\t^2"}]
    with registry.client(registry.admin) as client:
        data = make_package("oddity", name=odd, description=odd, capabilities=[odd], dependencies=needs)
        assert publish(client, data).status_code == 201
        assert client.get("/plugins/oddity").json()["name"] == odd
        assert (
            client.get("/plugins/oddity/versions/latest").json()["dependencies"][0]["range"] == "^1.0 || ^2"
        )
        assert client.get("/search", params={"capability": odd}).json()["total"] == 1
        assert client.get("/search", params={"q": f"oddity {odd}"}).status_code == 200
        page = client.get(f"{registry.url}/plugins/oddity")
        assert page.status_code == 200
        assert "\u202e" not in page.text


def test_killed_in_the_middle_leaves_no_half_version(tmp_path, make_package):
    """After kill -9 while packages are published, each version is wholly there or not at all."""
    folder = live_registry.make(tmp_path / "r", writesBurst=10000)
    packages = {f"1.0.{number}": make_package("victim", f"1.0.{number}") for number in range(40)}
    confirmed = []
    with live_registry.serving(folder) as live:
        admin = live.admin

        def publish_all() -> None:
            with live.client(admin) as client:
                for version, data in packages.items():
                    if publish(client, data).status_code == 201:
                        confirmed.append(version)
                        enough.set() if len(confirmed) == 5 else None

        enough = threading.Event()
        publisher = threading.Thread(target=_until_broken, args=(publish_all,))
        publisher.start()
        assert enough.wait(60)
        live.process.send_signal(signal.SIGKILL)
        publisher.join()
    (folder / "incoming" / "half").write_bytes(b"left by a crash")
    orphan = folder / "blobs" / "00" / ("0" * 64)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"of a publish that never came to its end")

    with live_registry.serving(folder, admin=admin) as live, live.client(admin) as client:
        listed = [one["version"] for one in client.get("/plugins/victim/versions").json()["versions"]]
        assert set(confirmed) <= set(listed)
        for version in listed:
            assert client.get(f"/plugins/victim/versions/{version}/download").content == packages[version]
        missing = next(version for version in packages if version not in listed)
        assert publish(client, packages[missing]).status_code == 201
        log = client.get("/log").text.splitlines()
        assert sum('"kind":"publish"' in line for line in log) == len(listed) + 1
    assert not orphan.exists()
    assert not list((folder / "incoming").iterdir())


def _until_broken(work) -> None:
    with contextlib.suppress(live_registry.httpx.TransportError):
        work()


@pytest.mark.needs_own_network
def test_full_disk_refuses_and_keeps_what_there_is(tmp_path):
    """When the disk is full a publish gets 507, nothing is half done, and reading goes on."""
    made = live_registry.make(tmp_path / "made", writesBurst=10000)
    admin = live_registry.token(made, "admin", "admin")
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=8m none {small} && cp -R {made}/. {small} && exec "$@"'
    before = [*("unshare", "--user", "--map-root-user", "--mount"), "sh", "-c", script, "sh"]
    with live_registry.serving(small, before=before, admin=admin) as live, live.client(admin) as client:
        published, answer = [], 201
        while answer == 201:
            version = f"1.0.{len(published)}"
            noise = random.Random(version).randbytes(300_000).hex()
            data = live_registry.package(tmp_path, "filler", version, readme=noise)
            refused = publish(client, data)
            if (answer := refused.status_code) == 201:
                published.append(version)
            assert len(published) < 50

        assert answer == 507, refused.text
        assert "disk is full" in refused.json()["detail"]
        assert client.get("/stats").json()["versions"] == len(published)
        for version in published:
            assert client.get(f"/plugins/filler/versions/{version}/download").status_code == 200
        assert client.get("/log").text.count('"kind":"publish"') == len(published)


def test_a_sender_who_goes_away_leaves_nothing(registry, make_package):
    """A connection that ends in the middle of an upload leaves no file and no version."""
    host, port = registry.url.removeprefix("http://").split(":")
    head = (
        f"POST /api/v1/plugins HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {registry.admin}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="package"\r\n\r\nPK'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
    with registry.client(registry.admin) as admin:
        assert publish(admin, make_package("after-that")).status_code == 201
    for _ in range(500):
        if not list((registry.folder / "incoming").iterdir()):
            break
        threading.Event().wait(0.01)
    assert not list((registry.folder / "incoming").iterdir())
