"""The pages in a real browser: found, read, accessible, and without a way in for what plugins say."""

import live_registry
import pytest
from browser import Browser, browser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from live_registry import publish
from registries import npm_package

from frys_runtime.package import read_package
from frys_runtime.signing import sign
from frys_runtime.signing_keys import key_id, public_bytes

pytestmark = pytest.mark.needs_chromium

_EVIL = '"><script>document.title = "owned"</script><img src=x onerror="document.title = \'owned\'">'

_KEY = Ed25519PrivateKey.generate()

_VIOLATIONS = "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes[0].html))"


@pytest.fixture(scope="module")
def pages(registry, tmp_path_factory) -> str:
    """The address of a registry with plugins of all kinds."""
    folder = tmp_path_factory.mktemp("packages")
    with registry.client(registry.admin) as admin:
        for number in range(25):
            data = live_registry.package(
                folder, f"plugin-{number}", description=f"Number {number}", license="MIT",
                capabilities=["DataProcessing"], permissions=["Read", "Network"],
            )  # fmt: skip
            beside = {"signature": sign(read_package(data), _KEY)} if number == 24 else {}
            assert publish(admin, data, **beside).status_code == 201
        evil = live_registry.package(
            folder, "evil", description=_EVIL, author=_EVIL, license=_EVIL, name=_EVIL, capabilities=[_EVIL],
            readme=f"# Title\n{_EVIL}\n[link](javascript:alert(1))",
            dependencies=[{"pluginId": "plugin-1", "versionRange": "^1.0"}],
        )  # fmt: skip
        assert publish(admin, evil).status_code == 201
        for version in ("1.1.0", "2.0.0"):
            data = live_registry.package(folder, "plugin-1", version, optionalPermissions=["Write"])
            assert publish(admin, data).status_code == 201
        admin.put("/plugins/plugin-1/versions/1.1.0/yank", json={"reason": f"bad {_EVIL}"})
        admin.put("/plugins/plugin-2/deprecation", json={"message": _EVIL, "replacement": "plugin-1"})
    return registry.url


@pytest.fixture(scope="module")
def page():
    """A browser for all tests of this module."""
    with browser() as chromium:
        yield chromium


def _text(page: Browser, selector: str) -> str:
    return page.run(f"document.querySelector({selector!r})?.innerText ?? ''")


def test_a_plugin_is_found_by_keyboard_alone(pages, page):
    """Tab leads over a skip link to the search; Enter searches; the result leads to the plugin's page."""
    page.open(f"{pages}/")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Tab")
    page.press("Tab")
    assert page.run("document.activeElement.id") == "q"
    page.do("Input.insertText", text="number 7")
    page.press("Enter", "\r")
    page.wait_for_load()
    assert _text(page, "h1") == "1 plugin for “number 7”"
    page.run("document.querySelector('.plugins a').focus()")
    page.press("Enter", "\r")
    page.wait_for_load()
    assert _text(page, "h1") == "plugin-7 1.0.0"
    assert _text(page, "#install + pre") == "frys install plugin-7@1.0.0"
    assert "Network" in _text(page, "dl.asks")


def test_lists_are_narrowed_and_paged_by_links(pages, page):
    """Facets and pages are links: narrowing, taking it back, and the rest of a list."""
    page.open(f"{pages}/?sort=name")
    first = page.run("[...document.querySelectorAll('.plugins .id')].map(one => one.innerText)")
    page.run("document.querySelector('a[rel=next]').click()")
    page.wait_for_load()
    rest = page.run("[...document.querySelectorAll('.plugins .id')].map(one => one.innerText)")
    assert (len(first), len(rest), len({*first, *rest})) == (20, 6, 26)
    page.open(f"{pages}/")
    page.run("document.querySelector('#by-permission + ul a').click()")
    page.wait_for_load()
    assert _text(page, "h1") == "24 plugins"
    page.run("document.querySelector('a.chosen').click()")
    page.wait_for_load()
    assert _text(page, "h1") == "26 plugins"
    page.open(f"{pages}/?q=nmuber")
    assert "number" in _text(page, ".notice")


def test_notices_stand_where_they_have_to(pages, page):
    """A yanked version and a deprecated plugin say so and why, and older versions name the latest."""
    page.open(f"{pages}/plugins/plugin-1/1.1.0")
    assert "This version was yanked: bad" in _text(page, ".notice.bad")
    assert _text(page, "#install + pre") == "frys install plugin-1@2.0.0"
    page.open(f"{pages}/plugins/plugin-2")
    assert "Deprecated" in _text(page, ".notice")
    assert page.run("document.querySelector('.notice a').pathname") == "/plugins/plugin-1"
    page.open(f"{pages}/plugins/plugin-1/1.0.0")
    assert "2.0.0" in _text(page, ".notice")
    assert "(can do without)" not in _text(page, "dl.asks")
    page.open(f"{pages}/plugins/none-of-that-name")
    assert _text(page, "h1") == "Not Found"


def test_who_has_signed_is_shown(pages, page):
    """The key that signed a version is named on its page, and so is that nobody did."""
    page.open(f"{pages}/plugins/plugin-24")
    shown = page.run("document.body.innerText")
    assert key_id(public_bytes(_KEY))[:16] in shown.partition("Signed with")[2].splitlines()[1]
    page.open(f"{pages}/plugins/plugin-3")
    assert "no" in page.run("document.body.innerText").partition("Signed with")[2].splitlines()[1]


def test_what_a_plugin_says_stays_text(pages, page):
    """Markup in every field of a plugin, in reasons and in queries is shown and never obeyed."""
    page.complaints.clear()
    for path in (
        "/",
        "/plugins/evil",
        "/plugins/plugin-1/1.1.0",
        "/plugins/plugin-2",
        "/?q=%22%3E%3Cscript%3E1",
    ):
        page.open(f"{pages}{path}")
        assert page.run("document.querySelectorAll('script, img, iframe').length") == 0
        assert (
            page.run("[...document.querySelectorAll('*')].some(one => one.getAttribute('onerror'))") is False
        )
        assert "owned" not in page.run("document.title").partition("·")[2]
        assert page.run("document.querySelectorAll('a[href^=javascript]').length") == 0
    page.open(f"{pages}/plugins/evil")
    assert _EVIL in _text(page, ".readme")
    assert page.complaints == []
    page.run(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    assert page.run("window.ran ?? 0") == 0
    assert any("Content Security Policy" in complaint for complaint in page.complaints)
    page.complaints.clear()


@pytest.mark.needs_npm
@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_the_pages_are_accessible(pages, page, scheme, width):
    """axe-core finds nothing on any page, on a phone in light and on a desk in dark; nothing sticks out."""
    page.do("Page.setBypassCSP", enabled=True)
    page.look_like(width, 900, scheme)
    axe = npm_package("axe-core@4.10.3")["axe.min.js"].decode()
    for path in ("/", "/?q=nmuber&license=MIT", "/plugins/evil", "/plugins/plugin-1/1.1.0", "/x"):
        page.open(f"{pages}{path}")
        page.run(axe)
        assert page.run(_VIOLATIONS) == [], path
        assert page.run("document.documentElement.scrollWidth") <= width
    page.do("Page.setBypassCSP", enabled=False)
