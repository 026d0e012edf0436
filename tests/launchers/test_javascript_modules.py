"""How a JavaScript plugin's files find each other: Node's resolution, CommonJS and ES modules."""

import contextlib
import json
import time

import pytest
from frys_runtime.launchers.failures import BadArtifact, LimitReached, NoSuchFunction, PluginRaised
from frys_runtime.launchers.javascript_exports import looks_like_commonjs, scan
from frys_runtime.launchers.javascript_resolve import COMMONJS, ESM, NOTHING, Resolver
from hypothesis import given, strategies as st
from javascript_build import call, start

# resolution


def resolver(files, *conditions):
    """A resolver over files given as a dict: a package.json as an object, all else is only a name."""

    def read_json(name):
        return files[name] if isinstance(files[name], dict) else None

    return Resolver(files, read_json, *conditions)


FILES = {
    "main.js": 1,
    "lib/index.js": 1,
    "lib/x.js": 1,
    "lib/x.json": 1,
    "data.json": 1,
    "package.json": {
        "name": "me",
        "main": "main.js",
        "exports": {".": "./main.js", "./lib/*": "./lib/*.js"},
        "imports": {},
    },
    "node_modules/plain/index.js": 1,
    "node_modules/plain/sub.js": 1,
    "node_modules/main/package.json": {"main": "lib"},
    "node_modules/main/lib/index.js": 1,
    "node_modules/main/node_modules/plain/index.js": 1,
    "node_modules/broken/package.json": {"main": "./nope.js"},
    "node_modules/broken/index.js": 1,
    "node_modules/esm/package.json": {"module": "es.js"},
    "node_modules/esm/es.js": 1,
    "node_modules/@scope/pkg/package.json": {"exports": "./a.js"},
    "node_modules/@scope/pkg/a.js": 1,
    "node_modules/dual/package.json": {
        "name": "dual",
        "exports": {
            ".": {"node": "./node.js", "import": "./i.mjs", "require": "./r.cjs"},
            "./deep": {"deno": "./no.js", "default": {"import": "./i.mjs", "default": "./r.cjs"}},
            "./list": ["bad", {"nope": "./no.js"}, "./r.cjs"],
            "./hidden": None,
            "./f/*": "./features/*.js",
            "./f/internal/*": None,
            "./f/*.css": "./r.cjs",
            "./gone": "./gone.js",
            "./up": "./../../../main.js",
            "./in": "./node_modules/x.js",
        },
        "imports": {"#own": "./r.cjs", "#dep": {"default": "plain"}, "#p/*": "./features/*.js"},
    },
    "node_modules/dual/i.mjs": 1,
    "node_modules/dual/r.cjs": 1,
    "node_modules/dual/node.js": 1,
    "node_modules/dual/features/a.js": 1,
    "node_modules/dual/features/a/b.js": 1,
    "node_modules/dual/features/internal/x.js": 1,
    "node_modules/worker/package.json": {
        "exports": {"browser": "./b.js", "default": "./node.js"},
    },
    "node_modules/worker/b.js": 1,
    "node_modules/punycode/index.js": 1,
    "node_modules/loose/package.json": {"module": "es/main.js"},
    "node_modules/loose/es/main.js": 1,
    "node_modules/loose/es/other.js": 1,
    "node_modules/loose/es/sub/index.js": 1,
    "node_modules/old/package.json": {
        "main": "main.js",
        "browser": {
            "./main.js": "./web.js",
            "./lib/node": "./lib/web",
            "crypto": False,
            "fs": "./lib/web.js",
            "./files.js": False,
            "net": 5,
            "tls": "../../main.js",
        },
    },
    "node_modules/old/main.js": 1,
    "node_modules/old/web.js": 1,
    "node_modules/old/files.js": 1,
    "node_modules/old/lib/node.js": 1,
    "node_modules/old/lib/web.js": 1,
    "node_modules/older/package.json": {"main": "main.js", "browser": "web.js"},
    "node_modules/older/main.js": 1,
    "node_modules/older/web.js": 1,
    "my_node_modules/a.js": 1,
    "my_node_modules/node_modules/plain/index.js": 1,
}


@pytest.mark.parametrize(
    ("base", "specifier", "how", "found"),
    [
        ("main.js", "./lib/x.js", ESM, "lib/x.js"),
        ("main.js", "./lib/x", COMMONJS, "lib/x.js"),
        ("main.js", "./lib", COMMONJS, "lib/index.js"),
        ("main.js", "./lib/", COMMONJS, "lib/index.js"),
        ("lib/x.js", "..", COMMONJS, "main.js"),
        ("lib/x.js", ".", COMMONJS, "lib/index.js"),
        ("lib/x.js", "../data", COMMONJS, "data.json"),
        ("lib/x.js", "./x.json", ESM, "lib/x.json"),
        ("lib/x.js", "/main.js", ESM, "main.js"),
        ("lib/x.js", "file:///main.js", ESM, "main.js"),
        ("main.js", "plain", ESM, "node_modules/plain/index.js"),
        ("main.js", "plain/sub.js", ESM, "node_modules/plain/sub.js"),
        ("main.js", "plain/sub", COMMONJS, "node_modules/plain/sub.js"),
        ("main.js", "main", ESM, "node_modules/main/lib/index.js"),
        ("node_modules/main/lib/index.js", "plain", ESM, "node_modules/main/node_modules/plain/index.js"),
        ("node_modules/main/lib/index.js", "esm", ESM, "node_modules/esm/es.js"),
        ("main.js", "broken", COMMONJS, "node_modules/broken/index.js"),
        ("main.js", "@scope/pkg", ESM, "node_modules/@scope/pkg/a.js"),
        ("main.js", "dual", ESM, "node_modules/dual/i.mjs"),
        ("main.js", "dual", COMMONJS, "node_modules/dual/r.cjs"),
        ("main.js", "dual/deep", ESM, "node_modules/dual/i.mjs"),
        ("main.js", "dual/deep", COMMONJS, "node_modules/dual/r.cjs"),
        ("main.js", "dual/list", ESM, "node_modules/dual/r.cjs"),
        ("main.js", "dual/f/a", ESM, "node_modules/dual/features/a.js"),
        ("main.js", "dual/f/a/b", ESM, "node_modules/dual/features/a/b.js"),
        ("main.js", "dual/f/x.css", ESM, "node_modules/dual/r.cjs"),
        ("main.js", "worker", ESM, "node_modules/worker/b.js"),
        ("main.js", "me", ESM, "main.js"),
        ("lib/x.js", "me/lib/x", COMMONJS, "lib/x.js"),
        ("node_modules/dual/i.mjs", "dual", ESM, "node_modules/dual/i.mjs"),
        ("node_modules/dual/i.mjs", "#own", ESM, "node_modules/dual/r.cjs"),
        ("node_modules/dual/i.mjs", "#dep", ESM, "node_modules/plain/index.js"),
        ("node_modules/dual/i.mjs", "#p/a", ESM, "node_modules/dual/features/a.js"),
        ("node_modules/loose/es/main.js", "./other", ESM, "node_modules/loose/es/other.js"),
        ("node_modules/loose/es/main.js", "./sub", ESM, "node_modules/loose/es/sub/index.js"),
        ("main.js", "old", ESM, "node_modules/old/web.js"),
        ("main.js", "old/lib/node", COMMONJS, "node_modules/old/lib/web.js"),
        ("node_modules/old/web.js", "./lib/node.js", ESM, "node_modules/old/lib/web.js"),
        ("node_modules/old/web.js", "crypto", COMMONJS, NOTHING),
        ("node_modules/old/web.js", "./files", COMMONJS, NOTHING),
        ("node_modules/old/web.js", "fs", ESM, "node_modules/old/lib/web.js"),
        ("main.js", "older", COMMONJS, "node_modules/older/web.js"),
        ("my_node_modules/a.js", "plain", ESM, "my_node_modules/node_modules/plain/index.js"),
        ("main.js", "file:///lib/%78.js", ESM, "lib/x.js"),
        ("main.js", "punycode", ESM, "node_modules/punycode/index.js"),
        ("main.js", "punycode/", COMMONJS, "node_modules/punycode/index.js"),
        ("main.js", "node:punycode", ESM, "node_modules/punycode/index.js"),
    ],
)
def test_a_name_means_the_file_that_it_means_in_node(base, specifier, how, found):
    """Relative paths, packages, exports with conditions and patterns, imports, scopes and self-reference."""
    assert resolver(FILES).resolve(base, specifier, how) == found


@pytest.mark.parametrize(
    ("base", "specifier", "how", "reason"),
    [
        ("main.js", "./lib/x", ESM, "but the plugin has no file 'lib/x'; there is 'lib/x.js'"),
        ("main.js", "./lib", ESM, "there is 'lib/index.js'"),
        ("lib/x.js", "../../x", COMMONJS, "which lies outside of the plugin"),
        ("main.js", "file:///%zz", ESM, "has no file '%zz'"),
        ("main.js", "file:///../x", ESM, "which lies outside of the plugin"),
        ("main.js", "none", ESM, "but the plugin has no package 'none' in its node_modules"),
        ("main.js", "plain/none", COMMONJS, "but the plugin has no package 'plain'"),
        ("main.js", "main/none", COMMONJS, "has no file 'node_modules/main/none'"),
        ("main.js", "dual/hidden", ESM, '"exports" of node_modules/dual/package.json does not offer it'),
        ("main.js", "dual/f/internal/x", ESM, "does not offer it"),
        ("main.js", "dual/i.mjs", ESM, "does not offer it"),
        ("main.js", "dual/gone", ESM, "means 'node_modules/dual/gone.js', but the plugin has no such file"),
        ("main.js", "dual/up", ESM, "does not offer it"),
        ("main.js", "dual/in", ESM, "does not offer it"),
        ("main.js", "dual/f/../node", ESM, "may not climb"),
        ("main.js", "#own", ESM, '"imports" of its package.json does not name'),
        ("main.js", "fs", ESM, "a module of Node, which is not here"),
        ("node_modules/old/web.js", "net", ESM, "a module of Node, which is not here"),
        ("node_modules/old/web.js", "tls", ESM, "a module of Node, which is not here"),
        ("main.js", "node:fs/promises", COMMONJS, "a module of Node, which is not here"),
        ("main.js", "https://example.com/x.js", ESM, "never an address"),
        ("main.js", "", ESM, "no name of a file or package"),
        ("main.js", ".hidden", ESM, "no name of a file or package"),
        ("main.js", "a%2fb", ESM, "no name of a file or package"),
        ("main.js", "x" * 10_000, ESM, "has no package"),
    ],
)
def test_what_is_not_there_is_named(base, specifier, how, reason):
    """The message tells who asked for what, and why it is not to be had."""
    with pytest.raises(LookupError) as refused:
        resolver(FILES).resolve(base, specifier, how)
    assert reason in str(refused.value)
    assert str(refused.value).startswith(f"{base} {'imports' if how == ESM else 'requires'} ")
    assert len(str(refused.value)) < 11_000


def test_a_plugin_may_choose_other_conditions():
    """Without "browser" its builds and its field do not count; with "node" those for Node do."""
    plain, node = resolver(FILES, ()), resolver(FILES, ["node"])
    assert plain.resolve("main.js", "older", ESM) == "node_modules/older/main.js"
    assert plain.resolve("main.js", "old", ESM) == "node_modules/old/main.js"
    assert plain.resolve("main.js", "dual", ESM) == "node_modules/dual/i.mjs"
    assert node.resolve("main.js", "dual", ESM) == "node_modules/dual/node.js"
    with pytest.raises(LookupError, match="a module of Node"):
        plain.resolve("node_modules/old/web.js", "crypto", COMMONJS)


def test_a_file_that_is_taken_away_is_empty():
    """The field "browser" of a package may replace what it cannot use by nothing."""
    files = {
        "node_modules/p/package.json": json.dumps(
            {"main": "p.js", "browser": {"fs": False, "./n.js": False}}
        ),
        "node_modules/p/p.js": "exports.found = [require('fs'), require('./n')]",
        "node_modules/p/n.js": "throw new Error('never')",
    }
    assert call("import { found } from 'p'; export const f = () => found", **files) == [{}, {}]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "./a.js", "../x", "./*", "#x", "pkg", "./.."]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([".", "./x", "./*", "#x", "import", "default", "__proto__", "*", "./*/*", ""]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "main", "module", "browser", "type", "exports", "imports"]),
        anything,
        max_size=6,
    ),
    st.sampled_from(["pkg", "pkg/x", "pkg/x/y", "#x", "./node_modules/pkg", ".", "pkg/", "pkg//x"]),
    st.sampled_from([ESM, COMMONJS]),
)
def test_a_package_json_may_say_anything(package, specifier, how):
    """Values of any type end in a file of the plugin or in a LookupError, never in another exception."""
    files = {
        "package.json": package,
        "a.js": 1,
        "node_modules/pkg/package.json": package,
        "node_modules/pkg/a.js": 1,
    }
    for base in ("a.js", "node_modules/pkg/a.js", "<input>"):
        with contextlib.suppress(LookupError):
            assert resolver(files).resolve(base, specifier, how) in {*files, NOTHING}
        resolver(files).kind(base)


# names of CommonJS


@pytest.mark.parametrize(
    ("source", "names", "again"),
    [
        ("exports.a = 1; exports . b=2; module.exports.c = 3", ["a", "b", "c"], []),
        ("exports['a-b'] = 1; exports[\"c\"]=2", ["a-b", "c"], []),
        ("exports.a == 1; exports.b === 2; x.exports.c = 1; myexports.d = 1; exports.e => 1", [], []),
        (
            "Object.defineProperty(exports, 'a', {}); Object.defineProperty(module.exports, \"b\", {})",
            ["a", "b"],
            [],
        ),
        ("module.exports = { a, b: c, 'd': e, ...require('./x'), f }", ["a", "b", "d", "f"], ["./x"]),
        ("module.exports = { a, b: function () {}, c }", ["a", "b"], []),
        ("0 && (module.exports = {\n  a,\n  // why\n  b\n});", ["a", "b"], []),
        ("module.exports = require('./other.js')", [], ["./other.js"]),
        (
            "__exportStar(require('./a'), exports); tslib_1.__exportStar(require(\"./b\"), exports)",
            [],
            ["./a", "./b"],
        ),
        (
            "var _a = require('./a'); Object.keys(_a).forEach(function (key) { exports[key] = _a[key] })",
            [],
            ["./a"],
        ),
        (
            "function E() {} module.exports = E; E.once = once; E.E = E; E.x == 1; notE.y = 1",
            ["once", "E"],
            [],
        ),
        ("exports.é = 1; exports.$_1 = 2", ["é", "$_1"], []),
        ("exports.", [], []),
        ("exports['", [], []),
        ("module.exports = {", [], []),
        ("module.exports = { ...require('", [], []),
        ("exports /* ", [], []),
        ("module.exports = { ...require('./x'", [], ["./x"]),
    ],
)
def test_names_are_found_in_the_text(source, names, again):
    """What Node's scanner finds in the common shapes of compilers and people."""
    assert scan(source.encode()) == (names, again)


@given(
    st.lists(
        st.sampled_from(["exports", "module.", ".", "=", "'", "{", "...", "require(", "a", "/*", "\n", ","])
    )
)
def test_any_text_can_be_scanned(parts):
    """Text of any kind is read to its end."""
    source = "".join(parts).encode()
    scan(source)
    looks_like_commonjs(source)


# CommonJS


def test_a_commonjs_file_as_the_entry():
    """What it puts into module.exports can be called, methods with their object as this."""
    plugin = start("let n = 0; module.exports = { add(x) { return this.base + x }, base: 40, [Symbol()]: 1 }")
    assert plugin("add", [2]) == 42
    assert plugin.functions() == {"add": "add(x)"}
    for name in ("base", "toString", "__proto__", "constructor"):
        with pytest.raises(NoSuchFunction):
            plugin(name, [])
    plugin.close()
    assert call("module.exports = (x) => x + 1", 1, function="default") == 2
    assert (
        call("exports.f = function () { return typeof require + __filename + __dirname }")
        == "function/plugin.js/"
    )
    assert call("exports.f = () => this === exports && module.id", name="a/b.cjs") == "/a/b.cjs"


@pytest.mark.parametrize(
    ("source", "commonjs"),
    [
        ("function f() {}", False),
        ("module.exports = { f }\nfunction f() {}", True),
        ("function f() {}\nexports.f = f", True),
        ('"use strict";Object.defineProperty(exports,"__esModule",{value:!0});exports.f=g;', True),
        ("(function (root, factory) { module.exports = factory() })(this)", True),
        # A script with a library pasted into it:
        ("!function(e){module.exports=e()}(() => 1);\nfunction f() {}", False),
        ("// about exports and module.exports", False),
    ],
)
def test_what_a_file_is_meant_as(source, commonjs):
    """A file that nothing declares is CommonJS when it exports so, and a script otherwise."""
    assert looks_like_commonjs(source.encode()) is commonjs


def test_require_runs_each_file_once():
    """Files are found by guessing extensions and folders, and JSON is parsed."""
    files = {
        "lib/index.js": """
            exports.count = (exports.count ?? 0) + 1;
            exports.dir = __dirname; exports.name = module.filename""",
        "data.json": '\ufeff{"a": [1, null]}',
        "sub/x.js": """
            module.exports = [require('../lib') === require('../lib/index.js'), require('../lib').count]""",
    }
    main = """
    const lib = require("./lib"), again = require("./lib/index.js"), data = require("./data");
    exports.f = () => [lib === again, lib.count, lib.dir, lib.name, data, require("./sub/x"), module.loaded];
    exports.g = () => [require.resolve("./lib"), typeof require.cache, typeof require.main];
    """
    plugin = start(main, **files)
    assert plugin("f", []) == [True, 1, "/lib", "/lib/index.js", {"a": [1, None]}, [True, 1], True]
    assert plugin("g", []) == ["/lib/index.js", "undefined", "undefined"]
    plugin.close()


def test_a_cycle_of_requires_ends_as_in_node():
    """Each file sees what the other has exported so far. The files are those of Node's manual."""
    files = {
        "a.js": "exports.done = false; exports.seen = require('./b.js').done; exports.done = true",
        "b.js": "exports.done = false; exports.seen = require('./a.js').done; exports.done = true",
    }
    main = "const a = require('./a'), b = require('./b'); exports.f = () => [a, b]"
    assert call(main, **files) == [{"done": True, "seen": True}, {"done": True, "seen": False}]


def test_a_file_that_throws_is_tried_again():
    """Its half of an export is not kept."""
    files = {
        "bad.js": "globalThis.tries = (globalThis.tries ?? 0) + 1; exports.half = 1; throw new Error('no')"
    }
    main = """
    const attempt = () => { try { return require("./bad") } catch (error) { return error.message } };
    exports.f = () => [attempt(), attempt(), tries];"""
    assert call(main, **files) == ["no", "no", 2]


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("'./none'", "MODULE_NOT_FOUND: plugin.js requires './none', but the plugin has no file 'none'"),
        ("'fs'", "MODULE_NOT_FOUND: plugin.js requires 'fs', a module of Node, which is not here"),
        ("'../x'", "MODULE_NOT_FOUND: plugin.js requires '../x', which lies outside of the plugin"),
        ("5", "undefined: require() needs the name of a module as a string"),
        ("'./bad.json'", "undefined: Expected property name"),
        ("'./bad.js'", "undefined: unexpected token in expression: ';'"),
        ("'./latin.js'", "undefined: latin.js:1: not UTF-8 text, so not JavaScript"),
    ],
)
def test_a_require_that_fails_can_be_caught(request_text, message):
    """The error has Node's code where a module is not found."""
    source = (
        "exports.f = () => { try { require(%s) } catch (error) { return error.code + ': ' + error.message } }"
    )
    files = {"bad.json": "{", "bad.js": "let x = ;", "latin.js": b"'\xff'"}
    assert call(source % request_text, **files).startswith(message)


def test_lines_of_a_commonjs_file_are_its_own():
    """Stacks name the file and the line, also of a file that begins with a shebang."""
    files = {"lib.cjs": "#!/usr/bin/env node\nexports.f = () => {\n  throw new Error('here') }"}
    with pytest.raises(PluginRaised) as raised:
        call("exports.f = require('./lib.cjs').f", **files)
    assert "(lib.cjs:3:" in raised.value.detail
    with pytest.raises(PluginRaised, match="SyntaxError: at run time"):
        start("exports.f = 1; throw new SyntaxError('at run time')")
    with pytest.raises(BadArtifact, match=r"plugin\.cjs:2: SyntaxError"):
        start("exports.f = 1;\nlet x = ;", name="plugin.cjs")


def test_requires_of_any_depth_end():
    """A chain of files without end is an exception, and so is a require that calls itself."""
    chain = {f"f{i}.js": f"module.exports = require('./f{i + 1}.js')" for i in range(20_000)}
    with pytest.raises(PluginRaised, match="Maximum call stack size exceeded"):
        start("module.exports = require('./f0.js')", stack=1 << 20, **chain)
    with pytest.raises(PluginRaised, match="Maximum call stack size exceeded"):
        start(
            "exports.f = (function again() { require('./lib.js'); again() })()", **{"lib.js": "exports.x = 1"}
        )


# CommonJS in ES modules, and the other way round


def test_an_import_of_commonjs():
    """The default is module.exports, names are those in the text, and the file runs when its turn comes."""
    files = {
        "first.mjs": "globalThis.order = ['first']",
        "lib.cjs": "order.push('lib'); exports.a = 1; exports.b = () => 2; if (0) exports.never = 1",
        "re.cjs": "module.exports = require('./lib.cjs')",
        "data.json": '{"x": 1}',
        "fn.cjs": "module.exports = () => 'called'; module.exports.extra = 5",
    }
    main = """
    import "./first.mjs";
    import lib, { a, b, never } from "./lib.cjs";
    import * as all from "./lib.cjs";
    import { a as again } from "./re.cjs";
    import data from "./data.json";
    import same from "./data.json" with { type: "json" };
    import fn, { extra } from "./fn.cjs";
    export const f = () =>
      [lib.a, a, b(), never, Object.keys(all), again, data, same === data, fn(), extra, order];
    export const g = async () => Object.keys(await import("./lib.cjs"));"""
    plugin = start(main, name="main.mjs", **files)
    names = ["a", "b", "default", "never"]
    assert plugin("f", []) == [1, 1, 2, None, names, 1, {"x": 1}, True, "called", 5, ["first", "lib"]]
    assert plugin("g", []) == names
    plugin.close()


def test_a_commonjs_file_that_throws_stops_its_importer():
    """The exception is the plugin's own, at load or in a dynamic import."""
    files = {"bad.cjs": "throw new RangeError('at its top')", "none.cjs": "module.exports = null"}
    with pytest.raises(PluginRaised, match="RangeError: at its top"):
        start("import './bad.cjs'", name="main.mjs", **files)
    source = """
    export const f = async () => { try { await import("./bad.cjs") } catch (error) { return String(error) } };
    export const g = async () => (await import("./none.cjs")).default;"""
    plugin = start(source, name="main.mjs", **files)
    assert plugin("f", []) == "RangeError: at its top"
    assert plugin("g", []) is None
    plugin.close()


def test_a_require_of_an_es_module():
    """It gives the namespace at once; a top-level await cannot be waited for."""
    files = {
        "lib.mjs": "import { x } from './x.mjs'; export { x }; export default 'd'",
        "x.mjs": "export const x = 7",
        "slow.mjs": "export const x = await 1",
        "bad.mjs": "throw new Error('inside')",
    }
    main = """
    const caught = (name) => { try { return require(name) } catch (error) { return error.message } };
    const lib = require("./lib.mjs");
    exports.f = () =>
      [lib.default, lib.x, lib === require("./lib.mjs"), caught("./slow.mjs"), caught("./bad.mjs")];
    exports.g = async () => (await import("./x.mjs")).x;"""
    plugin = start(main, name="main.cjs", **files)
    message = "slow.mjs has a top-level await, so it can be imported, not required"
    assert plugin("f", []) == ["d", 7, True, message, "inside"]
    assert plugin("g", []) == 7
    plugin.close()


def test_a_cycle_of_import_and_require_is_refused():
    """The engine could only abort: one of the two would have to wait for the other."""
    files = {
        "lib.cjs": "exports.f = require('./main.mjs').f",
        "other.cjs": "exports.f = require('./late.mjs').f",
        "late.mjs": "import './main.mjs'; export const f = 1",
    }
    with pytest.raises(PluginRaised, match=r"main\.mjs cannot be required while it is still being imported"):
        start("import './lib.cjs'; export const f = 1", name="main.mjs", **files)
    with pytest.raises(PluginRaised, match=r"late\.mjs imports '\./main\.mjs', which waits for it"):
        start("import './other.cjs'; export const f = 1", name="main.mjs", **files)


def test_failures_in_circles_leave_nothing_to_crash_on():
    """Files that were compiled before one in their circle failed are never used again; the rest goes on.

    The engine frees the file that failed and keeps the others, with pointers to it.
    """
    files = {
        "a.mjs": "import './b.mjs'; import './bad.mjs'; export const a = 1",
        "b.mjs": "import { a } from './a.mjs'; export const b = () => a",
        "bad.mjs": "let x = ;",
        "c.mjs": "import { nope } from './d.mjs'; export const c = 1",
        "d.mjs": "import './c.mjs'; export const d = 1",
        "e.cjs": "exports.x = require('./c.mjs')",
        "g.mjs": "import './h.cjs'; export const g = 1; throw new Error('g')",
        "h.cjs": "try { require('./g.mjs') } catch (error) { exports.error = error.message }",
        "fine.mjs": "export const fine = 1",
    }
    dynamic = """
    export const f = async (names) => {
      const found = [];
      for (const name of names)
        try { found.push(Object.keys(await import(name)).join()) } catch (error) { found.push(error.message) }
      return found;
    }"""
    required = """
    exports.f = (names) => names.map((name) => {
      try { return Object.keys(require(name)).join() } catch (error) { return error.message }
    })"""
    names = [f"./{name}" for name in files] * 2
    for name, source in (("main.mjs", dynamic), ("main.cjs", required)):
        plugin = start(source, name=name, **files)
        for _ in range(2):
            found = plugin("f", [names])
            assert found[-1] == "fine"
            assert "in a circle what could not be loaded" in found[1]
            assert "Could not find export 'nope'" in found[3]
            assert found[6] == "g"
        plugin.close()


NAMES = ["a.mjs", "b.mjs", "c.cjs", "d.cjs", "e.js"]
STATEMENTS = {
    "mjs": [
        "import './%s'",
        "import * as n_%d from './%s'",
        "import { x as x_%d } from './%s'",
        "export * from './%s'",
        "try { await import('./%s') } catch {}",
    ],
    "cjs": ["require('./%s')", "try { require('./%s') } catch {}", "exports.later = () => require('./%s')"],
}
EITHER = ["import('./%s').catch(() => 0)", "throw new Error('thrown')", "let x = ;", ""]


@st.composite
def graphs(draw):
    """A few files that import and require each other anyhow."""
    files = {}
    for name in NAMES:
        kind = name.rpartition(".")[2]
        kind = draw(st.sampled_from(["mjs", "cjs"])) if kind == "js" else kind
        lines = draw(st.lists(st.sampled_from([*STATEMENTS[kind], *EITHER]), max_size=4))
        text = [
            line.replace("%d", str(at)).replace("%s", draw(st.sampled_from(NAMES)))
            for at, line in enumerate(lines)
        ]
        exported = "export const x = 1" if kind == "mjs" else "exports.x = 1"
        files[name] = "\n".join(draw(st.permutations([*text, exported])))
    return files


@given(graphs(), st.lists(st.sampled_from(NAMES), max_size=5), st.booleans())
def test_files_may_need_each_other_anyhow(files, order, by_import):
    """Circles, failures and awaits in any order end in exceptions of the plugin, and leave nothing behind."""
    load = "await import('./' + name)" if by_import else "require('./' + name)"
    source = """async (names) => {
      for (const name of names)
        try { const file = %s; file.later?.(); file.default?.later?.() } catch {}
    }"""
    entry = "main.mjs" if by_import else "main.cjs"
    plugin = start(
        ("export const f = " if by_import else "exports.f = ") + source % load, name=entry, **files
    )
    for _ in range(2):
        plugin.deadline = time.monotonic() + 60
        with contextlib.suppress(PluginRaised):
            plugin("f", [order])
    plugin.close()


@pytest.mark.parametrize(
    ("package", "source", "kind"),
    [
        ({"type": "module"}, "export const kind = this === undefined", "module"),
        ({"type": "commonjs"}, "exports.kind = this === exports", "commonjs"),
        ({}, "exports.kind = this === exports", "commonjs"),
        ({}, "export const kind = this === undefined", "module"),
        ({"type": 5}, "await 1; export const kind = this === undefined", "module"),
    ],
)
def test_the_kind_of_a_file(package, source, kind):
    """The nearest package.json tells, and where it does not, the file's own text."""
    files = {
        "node_modules/p/package.json": json.dumps(package | {"main": "x.js"}),
        "node_modules/p/x.js": source,
    }
    assert call("import { kind } from 'p'; export const f = () => kind", **files) is True
    if kind == "commonjs":
        assert call("const { kind } = require('p'); exports.f = () => kind", **files) is True


def test_the_entry_follows_its_package_json():
    """The "type" holds for the plugin's own files, too."""
    module = {"package.json": '{"type": "module"}'}
    assert call("export const f = () => this === undefined", **module) is True
    assert call("exports.f = () => this === exports", **{"package.json": '{"type": "commonjs"}'}) is True
    with pytest.raises(PluginRaised, match="ReferenceError: exports is not defined"):
        call("exports.f = 1", **module)
    with pytest.raises(BadArtifact, match=r"data\.json is data"):
        start("{}", name="data.json")


def test_import_meta_tells_the_address():
    """A file's url is that of its path in the plugin, and addresses made from it can be imported."""
    files = {"lib/grün x.mjs": "export const meta = import.meta; export const own = import.meta.url"}
    main = """
    import { meta, own } from "./lib/gr\u00fcn x.mjs";
    export const f = async () => {
      const url = new URL("./main.mjs", import.meta.url);
      const again = await import(own);
      const same = (await import(url.href)).f === f && again.own === own;
      return [own, meta.filename, meta.dirname, import.meta.url, same];
    }"""
    address = "file:///lib/gr%C3%BCn%20x.mjs"
    assert call(main, name="main.mjs", **files) == [
        address,
        "/lib/grün x.mjs",
        "/lib",
        "file:///main.mjs",
        True,
    ]


# hostile files


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"main": 5, "imports": [[[]]], "type": {}}',
        '{"__proto__": {"main": "x.js"}, "constructor": 1}',
        '{"main": "../../../../etc/passwd"}',
        '{"main": "\\u0000"}',
        '{"exports": ' + '{"default":' * 5000 + "1" + "}" * 5000 + "}",
        '{"main": "' + "x" * (1 << 21) + '"}',
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_package_json_counts_as_absent(text):
    """Its package is then what stands in index.js."""
    files = {"node_modules/p/package.json": text, "node_modules/p/index.js": "module.exports = 'index'"}
    assert call("const p = require('p'); exports.f = () => p", **files) == "index"


def test_a_file_that_breaks_out_of_its_function():
    """The function around a CommonJS file is no border, and leaving it breaks nothing."""
    files = {"out.js": "}); globalThis.out = 1; (function () {", "gone.js": "}); ({ a: 1"}
    source = """exports.f = () => {
      try { return [require('./%s'), globalThis.out] } catch (error) { return String(error) }
    }"""
    assert call(source % "out.js", **files) == [{}, 1]
    assert "TypeError" in call(source % "gone.js", **files)


def test_names_that_belong_to_every_object():
    """A CommonJS file may export __proto__ and its kin; nothing else changes."""
    files = {"p.cjs": "exports.__proto__ = { a: 1 }; exports['constructor'] = 2; exports.toString = 3"}
    main = """
    import p, { constructor, toString } from "./p.cjs";
    export const f = () => [constructor, toString, Object.keys(p), ({}).a]"""
    assert call(main, name="main.mjs", **files) == [2, 3, ["constructor", "toString"], None]


def test_many_exports_are_bounded():
    """A file of a hundred thousand names links with as many as fit, and loads."""
    source = ";".join(f"exports.n{i}=1" for i in range(100_000))
    assert (
        call("import p from './p.cjs'; export const f = () => p.n99999", name="m.mjs", **{"p.cjs": source})
        == 1
    )
    with pytest.raises(BadArtifact, match="Could not find export 'n99999'"):
        start("import { n99999 } from './p.cjs'", name="m.mjs", **{"p.cjs": source})


def test_a_plugin_that_replaces_builtins_can_still_require():
    """The prelude keeps what it needs."""
    main = """
    const fine = require("./lib.js");
    for (const name of ["get", "set", "has", "delete"]) Map.prototype[name] = () => { throw 1 };
    for (const name of ["slice", "lastIndexOf"]) String.prototype[name] = () => { throw 1 };
    Reflect.apply = Function.prototype.apply = Function.prototype.call = () => { throw 1 };
    exports.f = () => [require("./lib.js") === fine, require("./other.js").x];"""
    assert call(main, **{"lib.js": "exports.x = 1", "other.js": "exports.x = 2"}) == [True, 2]


def test_files_that_take_all_memory():
    """Loading meets the plugin's limit as calls do."""
    with pytest.raises(LimitReached) as reached:
        start(
            "exports.f = require('./big.json')", memory=8 << 20, **{"big.json": "[" + "[]," * 400_000 + "0]"}
        )
    assert reached.value.resource == "memory"
