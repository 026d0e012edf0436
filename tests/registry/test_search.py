"""Searching: words, properties, typing errors, pages."""

import live_registry
import pytest
from live_registry import publish

from frys_runtime.metadata import parse_metadata
from frys_runtime.package import Package
from frys_runtime.registry_server import database, publishing, search, trust
from frys_runtime.registry_server.keys import Keyring
from frys_runtime.registry_server.settings import Settings
from frys_runtime.registry_server.tokens import Caller

_PLUGINS = {
    "image-resize": ("Resizes pictures", ["DataProcessing"], ["Read"], "MIT"),
    "sql-report": (
        "Tables out of databases",
        ["DatabaseAccess", "DataProcessing"],
        ["Read", "Network"],
        "MIT",
    ),
    "sentiment": ("Tells whether a text is friendly", ["AIProcessing"], [], "Apache-2.0"),
    "web-fetch": ("Fetches pages; its résumé is short", ["NetworkCommunication"], ["Network"], "Apache-2.0"),
}


@pytest.fixture(scope="module")
def filled(registry, tmp_path_factory):
    """The registry with a few plugins."""
    folder = tmp_path_factory.mktemp("packages")
    with registry.client(registry.admin) as admin:
        for plugin, (description, capabilities, permissions, spdx) in _PLUGINS.items():
            data = live_registry.package(
                folder, plugin, description=description, capabilities=capabilities, permissions=permissions,
                license=spdx, author="Ada Example", readme=f"How to use it: zebra {plugin}",
            )  # fmt: skip
            assert publish(admin, data).status_code == 201
        yield admin


def _found(client, **asked) -> list[str]:
    return [one["id"] for one in client.get("/search", params=asked).json()["plugins"]]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("picture", ["image-resize"]),
        ("ada friendly", ["sentiment"]),
        ("resume", ["web-fetch"]),
        ("data-processing", ["image-resize", "sql-report"]),
        ("senti", ["sentiment"]),
        ("sentimnet", ["sentiment"]),
        ("iamge reszie", ["image-resize"]),
        ("resiz", ["image-resize"]),
        ("epor", ["sql-report"]),
        ("zebra", ["image-resize", "sentiment", "sql-report", "web-fetch"]),
        ('"', ["image-resize", "sentiment", "sql-report", "web-fetch"]),
        ("nothinglikeit", []),
        ('id:x OR "a" NEAR(*', []),
    ],
)
def test_words_are_found_where_they_are(filled, words, found):
    """Words of every field are found, in other forms, unfinished, misspelt and inside of others."""
    assert sorted(_found(filled, q=words)) == found


def test_a_correction_is_told(filled):
    """Where other words were searched for, the answer names them."""
    assert filled.get("/search", params={"q": "sentimnet"}).json()["corrected"] == "sentiment"
    assert filled.get("/search", params={"q": "sentiment"}).json()["corrected"] == ""


def test_facets_count_and_narrow(filled):
    """Facets count what was found; filters of one or several facets all hold."""
    facets = filled.get("/search", params={"q": "zebra"}).json()["facets"]
    counts = {
        kind: {one["value"]: one["count"] for one in facets[kind]} for kind in facets if kind != "exact"
    }

    assert counts["license"] == {"Apache-2.0": 2, "MIT": 2}
    assert counts["permission"] == {"Network": 2, "Read": 2}
    assert facets["exact"] is True
    assert _found(filled, permission=["Read", "Network"]) == ["sql-report"]
    assert _found(filled, q="zebra", license="Apache-2.0", capability="AIProcessing") == ["sentiment"]
    assert _found(filled, q="sentimnet", license="MIT") == []
    assert _found(filled, q="epor", license="MIT") == ["sql-report"]


def test_of_many_hits_the_used_the_named_and_the_new_are_ranked(tmp_path, monkeypatch):
    """Of too many hits, those much used, named after the word or new are ranked, and all are counted."""
    monkeypatch.setattr(search, "RANKED", 3)
    monkeypatch.setattr(search, "POPULAR", 2)
    folder = live_registry.make(tmp_path / "r")
    live_registry.token(folder, "admin", "admin")
    db, signer = database.connect(folder), trust.Trust(Keyring(folder), Settings())
    caller = Caller("", 1, "admin", ("admin",))
    with database.transaction(db):
        for number in range(20):
            plugin = "zebra-named" if number == 8 else f"plugin-{number}"
            about = parse_metadata(
                b'{"id":"%b","version":"1.0.0","format":"python","entry":"x"}' % plugin.encode(), ""
            )
            package, about = Package(about, (), f"{number:064}", 1), b'{"format":"python"}'
            candidate = publishing.Candidate(package, about, "zebra", {}, ())
            publishing.add_version(db, signer, Settings(), caller, candidate)
        db.execute("UPDATE plugins SET downloads = 1000 WHERE id = 'plugin-3'")
        search.refresh_popular(db)
    found = search.search(db, search.Query("zebra"))
    narrowed = search.search(db, search.Query("zebra", {"format": ["python"]}, limit=2))
    db.close()

    ids = [one.id for one in found.plugins]
    assert (found.total, found.facets.exact, narrowed.total) == (20, False, 20)
    assert set(ids[:2]) == {"zebra-named", "plugin-3"}
    assert {"plugin-19", "plugin-18", "plugin-17"} <= set(ids)
    assert (len(narrowed.plugins), bool(narrowed.cursor)) == (2, True)


def test_pages_follow_one_another(filled):
    """Cursors lead through all plugins, each once, in every order."""
    for sort in ("relevance", "downloads", "updated", "name"):
        for words in ("", "zebra"):
            seen, cursor = [], ""
            while True:
                page = filled.get(
                    "/search", params={"q": words, "sort": sort, "limit": 3, "cursor": cursor}
                ).json()
                seen += [one["id"] for one in page["plugins"]]
                if not (cursor := page["cursor"]):
                    break
            assert sorted(seen) == sorted(_PLUGINS)
            assert page["total"] == len(_PLUGINS)
        if sort == "name":
            assert seen == sorted(_PLUGINS)


def test_deprecated_plugins_come_last_and_old_words_go(filled, make_package):
    """A notice puts a plugin behind others; a new release is found by its own words only."""
    assert filled.put("/plugins/sql-report/deprecation", json={"replacement": "nowhere"}).status_code == 404
    notice = {"message": "unmaintained", "replacement": "sentiment"}
    assert filled.put("/plugins/sql-report/deprecation", json=notice).json() == {"changed": True}
    assert _found(filled, q="zebra")[-1] == "sql-report"
    assert filled.get("/plugins/sql-report").json()["deprecated"] == notice
    assert filled.delete("/plugins/sql-report/deprecation").json() == {"changed": True}

    data = make_package("web-fetch", "2.0.0", description="Downloads pages", readme="zebra")
    assert publish(filled, data).status_code == 201
    assert _found(filled, q="downloads") == ["web-fetch"]
    assert _found(filled, q="resume short") == []
