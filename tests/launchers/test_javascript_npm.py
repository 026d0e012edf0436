"""Well-known packages of npm, installed when the tests run, in real jails at level Maximum."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import compat
import node_modules
import pytest
from support import live

from frys_runtime import PluginManager

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "markdown"
DECLARATIONS = ROOT / "launchers" / "types" / "frys.d.ts"

pytestmark = pytest.mark.needs_npm

PLUGINS = {
    # CommonJS only, without "exports"
    "lodash": """
        import _ from "lodash";
        import chunk from "lodash/chunk.js";
        export const run = () => [
          _.camelCase("hello big world"), chunk([1, 2, 3], 2), _.merge({ a: { b: 1 } }, { a: { c: [2] } }),
          _.groupBy([1.2, 1.8, 2.1], Math.floor), _.template("hi <%= name %>")({ name: "you" }),
        ];""",
    # both, by "exports"
    "date-fns": """
        import { addDays, differenceInCalendarDays, format, parseISO } from "date-fns";
        import { de } from "date-fns/locale/de";
        export const run = () => [
          format(addDays(parseISO("2024-02-28"), 2), "yyyy-MM-dd EEEE", { locale: de }),
          differenceInCalendarDays(parseISO("2024-03-01"), parseISO("2024-02-01")),
        ];""",
    # one file for every kind of loader, and plugins beside it
    "dayjs": """
        import dayjs from "dayjs";
        import utc from "dayjs/plugin/utc.js";
        dayjs.extend(utc);
        export const run = () => dayjs.utc("2024-01-31").add(1, "month").format("YYYY-MM-DD");""",
    # ES modules only
    "marked": """
        import { marked } from "marked";
        export const run = () => marked.parse("# Hi\\n\\n*you* and `me`");""",
    "nanoid": """
        import { customAlphabet, nanoid } from "nanoid";
        export const run = () => [nanoid().length, nanoid() !== nanoid(), customAlphabet("a", 4)()];""",
    # CommonJS of many files, dependencies of its own, JSON, and code made at run time
    "ajv": """
        const Ajv = require("ajv");
        const properties = { age: { type: "integer", minimum: 0 } };
        const validate = new Ajv().compile({ type: "object", properties, required: ["age"] });
        const check = (one) => validate(one) || validate.errors[0].message;
        exports.run = () => [check({ age: 5 }), check({ age: -1 }), check({})];""",
    "js-yaml": """
        import yaml, { load } from "js-yaml";
        export const run = () => [load("a: [1, 2]\\nb: {c: x}\\n"), yaml.dump({ list: [1, "x"] })];""",
    # an older pattern that looks for its surroundings
    "papaparse": """
        const Papa = require("papaparse");
        exports.run = () => [Papa.parse('a,b\\n1,"x, y"\\n', { header: true, skipEmptyLines: true }).data,
          Papa.unparse([["a", "b,c"]])];""",
    "uuid": """
        import { v5, validate, v4, v7, version } from "uuid";
        const space = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        export const run = () => [v5("www.example.com", space), validate(v4()), version(v7())];""",
    # files that require each other in circles
    "semver": """
        import semver from "semver";
        import satisfies from "semver/functions/satisfies.js";
        export const run = () => [satisfies("1.2.3", "^1.0.0"), semver.inc("1.2.3", "minor"),
          semver.sort(["1.10.0", "1.9.0"]), semver.valid("x")];""",
    # takes randomness from Node or from the web platform
    "tweetnacl": """
        import nacl from "tweetnacl";
        export const run = () => {
          const keys = nacl.sign.keyPair(), message = new Uint8Array([1, 2, 3]);
          const opened = nacl.sign.open(nacl.sign(message, keys.secretKey), keys.publicKey);
          return [opened, nacl.randomBytes(8).length];
        }""",
    # would read files by require.extensions if it could
    "handlebars": """
        const Handlebars = require("handlebars");
        exports.run = () => Handlebars.compile("Hi {{name}}{{#each list}} {{this}}{{/each}}")(
          { name: "<you>", list: [1, 2] });""",
}
RESULTS = {
    "lodash": [
        "helloBigWorld",
        [[1, 2], [3]],
        {"a": {"b": 1, "c": [2]}},
        {"1": [1.2, 1.8], "2": [2.1]},
        "hi you",
    ],
    "date-fns": ["2024-03-01 Freitag", 29],
    "dayjs": "2024-02-29",
    "marked": "<h1>Hi</h1>\n<p><em>you</em> and <code>me</code></p>\n",
    "nanoid": [21, True, "aaaa"],
    "ajv": [True, "must be >= 0", "must have required property 'age'"],
    "js-yaml": [{"a": [1, 2], "b": {"c": "x"}}, "list:\n  - 1\n  - x\n"],
    "papaparse": [[{"a": "1", "b": "x, y"}], 'a,"b,c"'],
    "uuid": ["2ed6657d-e927-568b-95e1-2665a8aea6a2", True, 7],
    "semver": [True, "1.3.0", ["1.9.0", "1.10.0"], None],
    "tweetnacl": [b"\1\2\3", 8],
    "handlebars": "Hi &lt;you&gt; 1 2",
}


CALLED = {
    "lodash": "camelCase, chunk, merge, groupBy, template",
    "date-fns": "addDays, format with a locale, differenceInCalendarDays",
    "dayjs": "add, format, with a plugin of its own",
    "marked": "parse",
    "nanoid": "nanoid, customAlphabet",
    "ajv": "compile, which makes code at run time; validate",
    "js-yaml": "load, dump",
    "papaparse": "parse, unparse",
    "uuid": "v4, v5, v7, validate",
    "semver": "satisfies, inc, sort, valid",
    "tweetnacl": "sign, open, randomBytes",
    "handlebars": "compile, which makes code at run time; a template",
}
"""For docs/compatibility.md."""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all packages."""
    return node_modules.installed(tmp_path_factory.getbasetemp())


def plugin(folder: Path, source: str, entry: str = "") -> Path:
    """A plugin's folder with one file of its own."""
    entry = entry or ("main.cjs" if "exports." in source else "main.mjs")
    (folder / entry).write_text(source)
    metadata = {"id": "npm", "version": "1.0.0", "format": "javascript", "entry": entry}
    (folder / "plugin.json").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=compat.row("npm package", name, CALLED[name])) for name in PLUGINS],
)
def test_a_package_of_npm_runs_as_it_is(
    name: str, packages: Path, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    """What ``npm install`` puts into the plugin's folder is imported, and gives the right results."""
    node_modules.copy(packages, [name], tmp_path)
    package = json.loads((tmp_path / "node_modules" / name / "package.json").read_text())
    record_property("version", package["version"])

    @live
    async def run() -> None:
        async with PluginManager() as manager:
            plugin_id = await manager.load_plugin(plugin(tmp_path, PLUGINS[name]))
            for _ in range(2):
                assert await manager.execute_plugin(plugin_id, "run") == RESULTS[name]

    run()


@pytest.mark.parametrize("form", ["esm", "cjs", "iife"])
def test_a_bundle_runs_without_its_packages(form: str, packages: Path, tmp_path: Path) -> None:
    """One file made by a bundler, in each of its formats, needs nothing else."""
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "main.js"
    source.write_text("""
        import chunk from "lodash/chunk";
        import { format } from "date-fns";
        import yaml from "js-yaml";
        const day = format(new Date(2024, 1, 3), "d.M.yy");
        export function run(text) { return [chunk(yaml.load(text), 2), day] }
        globalThis.callable = run;
        """)
    bundle = tmp_path / "plugin" / "bundle.js"
    options = ["--bundle", f"--format={form}", "--minify", f"--outfile={bundle}"]
    if form == "iife":
        options += ["--global-name=whole", "--footer:js=function run(text) { return whole.run(text) }"]
    command = [packages / ".bin" / "esbuild", source, *options]
    environment = os.environ | {"NODE_PATH": str(packages)}
    subprocess.run(command, env=environment, check=True, capture_output=True)

    @live
    async def run() -> None:
        async with PluginManager() as manager:
            plugin_id = await manager.load_plugin(bundle)
            result = await manager.execute_plugin(plugin_id, "run", "[1, 2, 3]")
            assert result == [[[1, 2], [3]], "3.2.24"]

    run()


def test_all_packages_in_one_plugin(packages: Path, tmp_path: Path) -> None:
    """Ten thousand files are a usual folder, and within the loader's bounds."""
    names = [name for name in PLUGINS if name != "esbuild"]
    folder = tmp_path / "plugin"
    node_modules.copy(packages, names, folder)
    imports = "\n".join(f'import * as p{at} from "{name}";' for at, name in enumerate(names))
    listed = ", ".join(f"p{at}" for at in range(len(names)))
    source = f"{imports}\nexport const run = () => [{listed}].map((one) => Object.keys(one).length > 0)"
    assert len(list(folder.rglob("*.js"))) > 3000

    @live
    async def run() -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text("extends: maximum\nlimits: {memory: 128MiB}\n")
        async with PluginManager(policy=policy) as manager:
            plugin_id = await manager.load_plugin(plugin(folder, source))
            assert await manager.execute_plugin(plugin_id, "run") == [True] * len(names)

    run()


def test_the_packages_are_of_every_kind(packages: Path) -> None:
    """CommonJS only, ES modules only, and both: what the tests above show is what they say."""
    kinds = {}
    for name in ("lodash", "nanoid", "date-fns"):
        package = json.loads((packages / name / "package.json").read_text())
        exports = json.dumps(package.get("exports", ""))
        kinds[name] = (package.get("type"), bool(re.search('"import"', exports)), '"require"' in exports)
    assert kinds["lodash"] == (None, False, False)
    assert kinds["nanoid"][0] == "module"
    assert kinds["nanoid"][2] is False
    assert kinds["date-fns"][1:] == (True, True)


def test_the_example_renders_markdown(packages: Path, tmp_path: Path) -> None:
    """examples/markdown works once its package is installed."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    node_modules.copy(packages, ["marked"], tmp_path)

    @live
    async def run() -> None:
        async with PluginManager() as manager:
            plugin_id = await manager.load_plugin(tmp_path)
            text = "# One\n\n*two*\n\n## Three\n"
            html = "<h1>One</h1>\n<p><em>two</em></p>\n<h2>Three</h2>\n"
            assert await manager.execute_plugin(plugin_id, "render", text) == html
            assert await manager.execute_plugin(plugin_id, "headings", text) == ["One", "Three"]

    run()


def test_the_declarations_for_typescript(packages: Path, tmp_path: Path) -> None:
    """frys.d.ts compiles strictly, accepts what works, and refuses what does not."""
    shutil.copy(DECLARATIONS, tmp_path)
    right = """
        export async function run(url: string): Promise<number> {
          frys.log.info("x"); frys.log("warning", 5);
          const response = await frys.http(url, { method: "POST", body: new Uint8Array(1), timeoutMs: 5 });
          const settings = frys.config(), one = frys.config("key");
          frys.kv.set("k", { a: [1, null, new Uint8Array(1), 5n] });
          const names: string[] = frys.kv.keys("p");
          try { await frys.call("other", "f", 1, "x") } catch (error) {
            if (error instanceof FrysError && error.reason === "permission") return names.length;
          }
          return frys.emit("type", [settings, one, frys.host("price", "x")]) + response.body.length;
        }"""
    wrong = """
        frys.log("loud", "x");
        frys.kv.set("k", () => 1);
        frys.http("https://a.example", { verb: "GET" });
        frys.nothing;"""

    def check(source: str) -> str:
        (tmp_path / "plugin.ts").write_text(source + "\nexport {};\n")
        options = [
            "--noEmit",
            "--strict",
            "--target",
            "es2023",
            "--lib",
            "es2023,dom",
            "--moduleDetection",
            "force",
        ]
        command = [packages / ".bin" / "tsc", *options, "frys.d.ts", "plugin.ts"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    assert check(right) == ""
    assert [line.partition(",")[0] for line in check(wrong).splitlines() if line.startswith("plugin")] == [
        f"plugin.ts({line}" for line in (2, 3, 4, 5)
    ]
