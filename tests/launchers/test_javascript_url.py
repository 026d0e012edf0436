"""URL and URLSearchParams, by cases written from the URL Standard (https://url.spec.whatwg.org)."""

import pytest
from javascript_build import call, start

# input, base, href
PARSED = [
    ("http:foo", None, "http://foo/"),
    ("http:/foo", None, "http://foo/"),
    ("http://foo", None, "http://foo/"),
    ("https:foo", None, "https://foo/"),
    ("HTTP://EX%41MPLE.com:80/", None, "http://example.com/"),
    ("http://ex.com:443", None, "http://ex.com:443/"),
    ("https://ex.com:443/", None, "https://ex.com/"),
    ("http://a:b@c:29/d", None, "http://a:b@c:29/d"),
    ("http::@c:29", None, "http://c:29/"),
    ("http://foo.com:b@d/", None, "http://foo.com:b@d/"),
    ("http://a@b@c/", None, "http://a%40b@c/"),
    ("http://h:00080/", None, "http://h/"),
    ("http://h:", None, "http://h/"),
    ("http://[::1]:80", None, "http://[::1]/"),
    ("http://[1:2:3:4:5:6:7:8]/", None, "http://[1:2:3:4:5:6:7:8]/"),
    ("http://[::ffff:1.2.3.4]", None, "http://[::ffff:102:304]/"),
    ("http://[1:0:0:2:0:0:0:3]", None, "http://[1:0:0:2::3]/"),
    ("http://[1:2:3:4:5:6:7::]", None, "http://[1:2:3:4:5:6:7:0]/"),
    ("http://[0:0:0:0:0:0:0:0]", None, "http://[::]/"),
    ("http://[1::0]", None, "http://[1::]/"),
    ("http://1.2.3", None, "http://1.2.0.3/"),
    ("http://0x7f.1", None, "http://127.0.0.1/"),
    ("http://256", None, "http://0.0.1.0/"),
    ("http://0300.1", None, "http://192.0.0.1/"),
    ("http://0xffffffff", None, "http://255.255.255.255/"),
    ("http://1.", None, "http://0.0.0.1/"),
    ("http://foo.1..", None, "http://foo.1../"),
    ("http://ho%73t", None, "http://host/"),
    ("http://ex.com/%zz%41", None, "http://ex.com/%zz%41"),
    ("http://münchen.de/ä?ö#ü", None, "http://xn--mnchen-3ya.de/%C3%A4?%C3%B6#%C3%BC"),
    ("http://☃.net/", None, "http://xn--n3h.net/"),
    ("http://faß.de", None, "http://xn--fa-hia.de/"),
    ("http://ＧＯ.com", None, "http://go.com/"),
    ("http://日本語。ＪＰ", None, "http://xn--wgv71a119e.jp/"),
    ("http://xn--mnchen-3ya.de", None, "http://xn--mnchen-3ya.de/"),
    ("http://a\xadb.com", None, "http://ab.com/"),
    ("http://%C3%BC.com", None, "http://xn--tda.com/"),
    ("http://a/b/../../c/./d/.", None, "http://a/c/d/"),
    ("http://a/b/%2e%2E/c", None, "http://a/c"),
    ("http://a/..", None, "http://a/"),
    ("http://a?b?c#d#e", None, "http://a/?b?c#d#e"),
    ("http://a/b c?d e#f g", None, "http://a/b%20c?d%20e#f%20g"),
    ("http://a?'\"<>`", None, "http://a/?%27%22%3C%3E`"),
    ("ws://a?'x", None, "ws://a/?%27x"),
    ("foo://a?'x", None, "foo://a?'x"),
    ("foo://a/'x", None, "foo://a/'x"),
    ("foo:bar  ", None, "foo:bar"),
    ("foo:/..//x", None, "foo:/.//x"),
    ("foo:///a", None, "foo:///a"),
    ("foo://", None, "foo://"),
    ("foo://h:80", None, "foo://h:80"),
    ("foo://H%41", None, "foo://H%41"),
    ("foo://ä", None, "foo://%C3%A4"),
    ("foo://[::1]/", None, "foo://[::1]/"),
    ("foo:\\x", None, "foo:\\x"),
    ("web+demo:/.//not-a-host/", None, "web+demo:/.//not-a-host/"),
    ("web+demo:/x/..//y", None, "web+demo:/.//y"),
    ("file:", None, "file:///"),
    ("file:a", None, "file:///a"),
    ("file:/a", None, "file:///a"),
    ("file://", None, "file:///"),
    ("file://x/y", None, "file://x/y"),
    ("file:///C|/x", None, "file:///C:/x"),
    ("file:C|/m", None, "file:///C:/m"),
    ("file:c:", None, "file:///c:"),
    ("file://C|/x", None, "file:///C:/x"),
    ("file://localhost/x", None, "file:///x"),
    ("file:////x", None, "file:////x"),
    ("file:..", None, "file:///"),
    ("file:///C:/../x", None, "file:///C:/x"),
    ("file://\\\\s\\x", None, "file:////s/x"),
    ("javascript:alert(1) ", None, "javascript:alert(1)"),
    ("mailto:a@b?c", None, "mailto:a@b?c"),
    ("data:,x#y", None, "data:,x#y"),
    ("about:blank", None, "about:blank"),
    ("blob:https://a.com/x", None, "blob:https://a.com/x"),
    ("blob:ftp://a/x", None, "blob:ftp://a/x"),
    ("\t http://a\n.com/ \x00", None, "http://a.com/"),
    ("http://a/\x00b", None, "http://a/%00b"),
    ("a:\tb", None, "a:b"),
    ("A+b-1.:x", None, "a+b-1.:x"),
    ("http://a/%", None, "http://a/%"),
    ("http:\\\\x\\y", None, "http://x/y"),
    ("https:///x", None, "https://x/"),
    ("http:///x", None, "http://x/"),
    ("http://a_b", None, "http://a_b/"),
    ("http://-", None, "http://-/"),
    ("http://.", None, "http://./"),
    ("http://..", None, "http://../"),
    ("http://a..b", None, "http://a..b/"),
    ("http://a.", None, "http://a./"),
    ("ftp://x:21/", None, "ftp://x/"),
    ("wss://x:443", None, "wss://x/"),
    ("ws:x", None, "ws://x/"),
    ("http://a?%zz é", None, "http://a/?%zz%20%C3%A9"),
    ("http://user name:p ss@h", None, "http://user%20name:p%20ss@h/"),
    ("sc://ñ.test/", None, "sc://%C3%B1.test/"),
    ("http://a/😀", None, "http://a/%F0%9F%98%80"),
    ("http://1e2", None, "http://1e2/"),
    ("http://0x", None, "http://0.0.0.0/"),
    ("http://0x.0x", None, "http://0.0.0.0/"),
    ("http://00.00.00.00", None, "http://0.0.0.0/"),
    ("", "http://example.org/foo/bar?q#f", "http://example.org/foo/bar?q"),
    ("/", "http://example.org/foo/bar?q#f", "http://example.org/"),
    ("..", "http://example.org/foo/bar?q#f", "http://example.org/"),
    ("../x", "http://example.org/foo/bar?q#f", "http://example.org/x"),
    ("./", "http://example.org/foo/bar?q#f", "http://example.org/foo/"),
    ("a/b", "http://example.org/foo/bar?q#f", "http://example.org/foo/a/b"),
    ("//foo/bar", "http://example.org/foo/bar?q#f", "http://foo/bar"),
    ("///x", "http://example.org/foo/bar?q#f", "http://x/"),
    ("http:foo", "http://example.org/foo/bar?q#f", "http://example.org/foo/foo"),
    ("http:/foo", "http://example.org/foo/bar?q#f", "http://example.org/foo"),
    ("https:foo", "http://example.org/foo/bar?q#f", "https://foo/"),
    ("#f", "http://example.org/foo/bar?q#f", "http://example.org/foo/bar?q#f"),
    ("?q", "http://example.org/foo/bar?q#f", "http://example.org/foo/bar?q"),
    ("\\x", "http://example.org/foo/bar?q#f", "http://example.org/x"),
    ("\\\\s\\x", "http://example.org/foo/bar?q#f", "http://s/x"),
    ("file:a", "http://example.org/foo/bar?q#f", "file:///a"),
    ("foo:/x", "http://example.org/foo/bar?q#f", "foo:/x"),
    ("mailto:a@b?c", "http://example.org/foo/bar?q#f", "mailto:a@b?c"),
    ("", "file:///C:/a/b", "file:///C:/a/b"),
    ("..", "file:///C:/a/b", "file:///C:/"),
    ("/x", "file:///C:/a/b", "file:///C:/x"),
    ("//h/x", "file:///C:/a/b", "file://h/x"),
    ("C|/x", "file:///C:/a/b", "file:///C:/x"),
    ("/D|/y", "file:///C:/a/b", "file:///D:/y"),
    ("../../..", "file:///C:/a/b", "file:///C:/"),
    ("?q", "file:///C:/a/b", "file:///C:/a/b?q"),
    ("#f", "file:///C:/a/b", "file:///C:/a/b#f"),
    ("x", "file:///C:/a/b", "file:///C:/a/x"),
    ("file:x", "file:///C:/a/b", "file:///C:/a/x"),
    ("file:c:", "file:///C:/a/b", "file:///c:"),
    ("#f", "mailto:x@y", "mailto:x@y#f"),
    ("../z", "non-special://test/x/y", "non-special://test/z"),
    ("//o/p", "non-special://test/x/y", "non-special://o/p"),
    ("?q", "non-special://test/x/y", "non-special://test/x/y?q"),
    ("\\x", "non-special://test/x/y", "non-special://test/x/\\x"),
    ("/z", "non-special://test/x/y", "non-special://test/z"),
    ("/C|/x", "file:///tmp/mock/path", "file:///C:/x"),
    ("x", "file:///tmp/mock/path", "file:///tmp/mock/x"),
    ("http://a/^", None, "http://a/%5E"),
    ("foo:bar baz ?x", None, "foo:bar baz%20?x"),
    ("foo:/a/../..", None, "foo:/"),
]
# input, base
REFUSED = [
    ("", None),
    ("/", None),
    ("..", None),
    ("../x", None),
    ("./", None),
    ("a/b", None),
    ("//foo/bar", None),
    ("///x", None),
    ("http://@/x", None),
    ("http://u:p@/x", None),
    ("http://h:65536", None),
    ("http://[1::2::3]", None),
    ("http://[::1", None),
    ("http://[::1.2.3]", None),
    ("http://[::01.2.3.4]", None),
    ("http://1.2.3.256", None),
    ("http://1.2.3.4.5", None),
    ("http://09", None),
    ("http://4294967296", None),
    ("http://foo.0x", None),
    ("http://a b", None),
    ("http://a%20b", None),
    ("http://a<b", None),
    ("http://%zz", None),
    ("http://\u200b", None),
    ("foo://h:99999", None),
    ("foo://ho st", None),
    ("foo://u@", None),
    ("foo://:80", None),
    ("foo://a\\b", None),
    ("/C|/x", None),
    ("C|/x", None),
    ("C|", None),
    ("file://a:80", None),
    ("\\\\s\\x", None),
    ("\\x", None),
    ("#f", None),
    ("?q", None),
    ("#", None),
    ("?", None),
    ("1:b", None),
    ("a b:c", None),
    ("+a:b", None),
    ("http://", None),
    ("http:", None),
    ("https:#x", None),
    ("http://x:a", None),
    ("http://x@:1", None),
    ("http://ex.com|", None),
    ("http://a^b", None),
    ("foo://a^b", None),
    ("foo://a|b", None),
    ("http://u;=:p/@h", None),
    ("sc:// /", None),
    ("sc://@/", None),
    ("sc://te@s:t@/", None),
    ("http://0..0x300/", None),
    ("x", "mailto:x@y"),
    ("", "mailto:x@y"),
]


@pytest.fixture(scope="module")
def urls():
    """A plugin that parses."""
    plugin = start("""
    const parse = (input, base) => URL.parse(input, base ?? undefined)?.href ?? null;
    const again = (href) => new URL(href).href;
    function set(href, name, value) {
      const url = new URL(href);
      url[name] = value;
      return url.href;
    }
    function parts(href) {
      const url = new URL(href);
      const names = "origin protocol username password host hostname port pathname search hash";
      return names.split(" ").map((name) => url[name]);
    }""")
    yield plugin
    plugin.close()


@pytest.mark.parametrize(("text", "base", "href"), PARSED)
def test_what_a_url_is(urls, text, base, href):
    """The text is read as the standard says, and what comes out means itself."""
    assert urls("parse", [text, base]) == href
    assert urls("again", [href]) == href


@pytest.mark.parametrize(("text", "base"), REFUSED)
def test_what_is_no_url(urls, text, base):
    """Hosts, ports and schemes that are wrong are refused, and relative ones need a base."""
    assert urls("parse", [text, base]) is None


@pytest.mark.parametrize("text", ["http://\ud800/\udc00?\ud800", "http://a/\ud800?\udfff#\ud83d"])
def test_lone_surrogates_become_replacement_characters(text):
    """As everywhere on the web platform; in a host they are refused."""
    escaped = "".join(f"\\u{ord(c):04x}" if ord(c) > 0x7F else c for c in text)
    found = call(f"function f() {{ return URL.parse('{escaped}')?.href ?? null }}")
    assert found == (None if "//\ud800" in text else "http://a/%EF%BF%BD?%EF%BF%BD#%EF%BF%BD")


@pytest.mark.parametrize(
    ("href", "parts"),
    [
        (
            "https://u:p@h.example:8443/a/b?q=1#f",
            [
                "https://h.example:8443",
                "https:",
                "u",
                "p",
                "h.example:8443",
                "h.example",
                "8443",
                "/a/b",
                "?q=1",
                "#f",
            ],
        ),
        ("file:///a?#", ["null", "file:", "", "", "", "", "", "/a", "", ""]),
        ("mailto:a@b", ["null", "mailto:", "", "", "", "", "", "a@b", "", ""]),
        ("blob:https://a.com/x", ["https://a.com", "blob:", "", "", "", "", "", "https://a.com/x", "", ""]),
    ],
)
def test_the_parts_of_a_url(urls, href, parts):
    """Each getter gives its part."""
    assert urls("parts", [href]) == parts


@pytest.mark.parametrize(
    ("href", "name", "value", "result"),
    [
        ("http://h/p", "protocol", "https", "https://h/p"),
        ("http://h/p", "protocol", "foo", "http://h/p"),
        ("https://h:80/p", "protocol", "http:x", "http://h/p"),
        ("foo://h/p", "protocol", "http", "foo://h/p"),
        ("file:///p", "protocol", "http", "file:///p"),
        ("http://u@h/p", "protocol", "file", "http://u@h/p"),
        ("http://h/", "username", "a b:@", "http://a%20b%3A%40@h/"),
        ("http://u:p@h/", "password", "", "http://u@h/"),
        ("file:///x", "username", "u", "file:///x"),
        ("mailto:x", "username", "u", "mailto:x"),
        ("http://h:8/p", "host", "x:81", "http://x:81/p"),
        ("http://h:8/p", "host", "x", "http://x:8/p"),
        ("http://h/p", "host", "x:99999", "http://x/p"),
        ("http://h/p", "host", "x/y", "http://x/p"),
        ("http://h/p", "host", "", "http://h/p"),
        ("http://h/p", "host", "u@x", "http://h/p"),
        ("http://h/p", "host", "a b", "http://h/p"),
        ("http://h/p", "host", "0x7f.1", "http://127.0.0.1/p"),
        ("foo://h/p", "host", "", "foo:///p"),
        ("foo://h:1/p", "host", "", "foo://h:1/p"),
        ("foo://h/p", "host", ":8", "foo://h/p"),
        ("foo:/x", "host", "x:81", "foo://x:81/x"),
        ("file://h/x", "host", "localhost", "file:///x"),
        ("file://h/x", "host", "x:81", "file://h/x"),
        ("http://h/p", "hostname", "x:81", "http://h/p"),
        ("http://h/p", "hostname", "[::1]", "http://[::1]/p"),
        ("http://h/p", "port", "8a", "http://h:8/p"),
        ("http://h:9/p", "port", "", "http://h/p"),
        ("http://h:9/p", "port", "80", "http://h/p"),
        ("http://h:9/p", "port", "x", "http://h:9/p"),
        ("http://h:9/p", "port", "99999", "http://h:9/p"),
        ("file:///x", "port", "9", "file:///x"),
        ("http://h/p", "pathname", "a/../b?c#d", "http://h/b%3Fc%23d"),
        ("http://h/p", "pathname", "", "http://h/"),
        ("foo://h/p", "pathname", "", "foo://h"),
        ("foo:/p", "pathname", "//y", "foo:/.//y"),
        ("mailto:x", "pathname", "y", "mailto:x"),
        ("http://h/p?q", "search", "", "http://h/p"),
        ("http://h/p?q", "search", "?a=é 'x", "http://h/p?a=%C3%A9%20%27x"),
        ("foo://h/p", "search", "'", "foo://h/p?'"),
        ("http://h/p#f", "hash", "", "http://h/p"),
        ("http://h/p", "hash", "#a`b", "http://h/p#a%60b"),
        ("http://h/p", "href", "https://x", "https://x/"),
    ],
)
def test_setters(urls, href, name, value, result):
    """Each changes its part as far as the rest allows, and nothing else."""
    assert urls("set", [href, name, value]) == result


def test_a_url_that_is_none_is_a_type_error():
    """The constructor and href throw, parse and canParse do not."""
    source = """
    function f() {
      const caught = (work) => { try { work() } catch (error) { return [error.name, error.code] } };
      const url = new URL("http://h/");
      return [caught(() => new URL("x")), caught(() => { url.href = "x" }), url.href, URL.canParse("x"),
        URL.canParse("x", "http://h"), JSON.stringify({ url }), String(url)];
    }"""
    wrong = ["TypeError", "ERR_INVALID_URL"]
    assert call(source) == [wrong, wrong, "http://h/", False, True, '{"url":"http://h/"}', "http://h/"]


@pytest.mark.parametrize(
    ("init", "pairs", "text"),
    [
        ("''", [], ""),
        ("'?a=b&c'", [["a", "b"], ["c", ""]], "a=b&c="),
        ("'??a'", [["?a", ""]], "%3Fa="),
        ("'&&a=b=c&'", [["a", "b=c"]], "a=b%3Dc"),
        ("'a+b=%20%zz%C3'", [["a b", " %zz\ufffd"]], "a+b=+%25zz%EF%BF%BD"),
        ("'é=ü'", [["é", "ü"]], "%C3%A9=%C3%BC"),
        ("'='", [["", ""]], "="),
        ("{ a: 1, b: 'x y' }", [["a", "1"], ["b", "x y"]], "a=1&b=x+y"),
        ("[['a', 'b'], ['a', \"~!*()'-._\"]]", [["a", "b"], ["a", "~!*()'-._"]], "a=b&a=%7E%21*%28%29%27-._"),
        ("new Map([['x', 'y']])", [["x", "y"]], "x=y"),
        ("new URLSearchParams('k=v')", [["k", "v"]], "k=v"),
        ("null", [["null", ""]], "null="),
    ],
)
def test_search_params_from_anything(init, pairs, text):
    """Text, records, pairs and whatever can be iterated; the form encoding both ways."""
    found = call(
        f"function f() {{ const p = new URLSearchParams({init}); return [[...p], p.toString(), p.size] }}"
    )
    assert found == [pairs, text, len(pairs)]


def test_search_params_are_a_list():
    """Names may repeat; set keeps the first place, delete and has may ask for a value, sort is stable."""
    source = """
    function f() {
      const p = new URLSearchParams("b=1&a=2&b=3&a=4");
      const found = [p.get("b"), p.get("z"), p.getAll("b"), p.has("a", "4"), p.has("a", "5")];
      p.append("c", 5); p.set("a", "x"); p.delete("b", "1"); p.sort();
      let each = "";
      p.forEach((value, name, self) => { each += name + value + (self === p) });
      let wrong;
      try { new URLSearchParams([["a"]]) } catch (error) { wrong = error.name }
      return [...found, p.toString(), [...p.keys()], [...p.values()], each, wrong];
    }"""
    assert call(source) == [
        "1",
        None,
        ["1", "3"],
        True,
        False,
        "a=x&b=3&c=5",
        ["a", "b", "c"],
        ["x", "3", "5"],
        "axtrueb3truec5true",
        "TypeError",
    ]


def test_a_url_and_its_params_follow_each_other():
    """What changes in one is in the other."""
    source = """
    function f() {
      const url = new URL("http://h/?a=1"), params = url.searchParams, seen = [];
      params.append("x", "y z"); seen.push(url.href);
      url.search = "?k=v"; seen.push(params.get("k"), params === url.searchParams);
      params.delete("k"); seen.push(url.href);
      url.href = "http://q/?m"; seen.push([...params].join());
      return seen;
    }"""
    assert call(source) == ["http://h/?a=1&x=y+z", "v", True, "http://h/", "m,"]


def test_a_hostile_url_ends():
    """Length and depth cost time in proportion, never a crash."""
    source = """
    function f() {
      const many = (text) => URL.parse("http://h/" + text.repeat(20000))?.href.length ?? null;
      return [many("../"), many("a/"), many("%"), URL.parse("http://" + "a.".repeat(20000))?.host.length,
        URL.parse("http://[" + "1:".repeat(20000) + "]"), URL.parse("http://" + "9".repeat(20000))];
    }"""
    assert call(source) == [9, 40009, 20009, 40000, None, None]
