"""Packages that a Python plugin brings along, in the real jail at level Maximum, in both interpreters."""

import itertools
import json
import os
import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compat
import pip_packages
import pytest
from support import live

from frys_runtime import ExecutionFailed, InvalidFormat, LoadFailed, PluginManager

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]
type Make = Callable[..., Path]


@pytest.fixture(params=["own", "main"])
def interpreter(request: pytest.FixtureRequest) -> str:
    """Each of the two."""
    return str(request.param)


@pytest.fixture
def make(tmp_path: Path, interpreter: str) -> Make:
    """Write a plugin folder from its files; ``vendor`` is a folder that pip has filled."""
    numbers = itertools.count()

    def folder(files: dict[str, str], vendor: Path | None = None, **python: Any) -> Path:
        top = tmp_path / f"plugin-{next(numbers)}"
        facts = {"id": top.name, "version": "1.0.0", "format": "python", "entry": "main.py"}
        if vendor is not None:
            shutil.copytree(vendor, top / "vendor")
            python.setdefault("paths", ["vendor"])
        facts |= {"interpreter": interpreter, "python": python}
        for name, text in {**files, "plugin.json": json.dumps(facts)}.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return top

    return folder


async def _call(folder: Path, function: str = "f", *args: Any) -> Any:
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)
        return await manager.execute_plugin(plugin, function, *args)


# ---- packages of the index


JINJA = """
import jinja2
import markupsafe._speedups

template = jinja2.Environment(autoescape=True).from_string("{% for i in r %}{{ x }}{{ i }} {% endfor %}")

def f():
    return [template.render(x="<b>", r=[1, 2]), jinja2.__version__]
"""
YAML = """
import yaml

def f():
    return [yaml.safe_load("a: [1, 2.5, x]"), yaml.safe_dump({"b": [1]})]
"""
MARKDOWN = """
import markdown

def f():
    return markdown.markdown("| a |\\n|---|\\n| *1* |", extensions=["tables"])
"""
DATEUTIL = """
from datetime import datetime
import dateutil.parser
import dateutil.rrule

def f():
    import dateutil.tz
    start = dateutil.parser.parse("3 Feb 2026 10:00")
    days = list(dateutil.rrule.rrule(dateutil.rrule.MONTHLY, dtstart=start, count=3))
    return [days[-1].isoformat(), datetime(2026, 7, 1, tzinfo=dateutil.tz.tzutc()).isoformat()]
"""
PYGMENTS = """
import pygments

def f():
    from pygments.formatters import get_formatter_by_name
    from pygments.lexers import get_lexer_by_name
    return pygments.highlight("def f(): pass", get_lexer_by_name("python"), get_formatter_by_name("html"))
"""
NETWORKX = """
import networkx

def f():
    graph = networkx.path_graph(5)
    return [networkx.shortest_path(graph, 0, 4), networkx.density(graph)]
"""
ATTRS = """
import attrs

@attrs.define
class Point:
    x: int = attrs.field(validator=attrs.validators.instance_of(int))

def f():
    try:
        Point("1")
    except TypeError:
        return attrs.asdict(Point(3))
"""
TZDATA = """
import zoneinfo
from datetime import datetime

def f():
    return datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).isoformat()
"""
HEAD, BODY = "<tr>\n<th>a</th>\n</tr>", "<tr>\n<td><em>1</em></td>\n</tr>"
TABLE = f"<table>\n<thead>\n{HEAD}\n</thead>\n<tbody>\n{BODY}\n</tbody>\n</table>"


INDEX = {
    "jinja2==3.1.6": ("a template with escaping", JINJA, ["&lt;b&gt;1 &lt;b&gt;2 ", "3.1.6"]),
    "pyyaml==6.0.4": ("safe_load, safe_dump", YAML, [{"a": [1, 2.5, "x"]}, "b:\n- 1\n"]),
    "markdown==3.11.3": ("a table, by an extension found by its name", MARKDOWN, TABLE),
    "python-dateutil==4.0.0": (
        "parser, rrule, tz",
        DATEUTIL,
        ["2026-04-03T10:00:00", "2026-07-01T00:00:00+00:00"],
    ),
    "networkx==3.7": ("shortest_path, density", NETWORKX, [[0, 1, 2, 3, 4], 0.4]),
    "attrs==26.1.0": ("a class with validators, asdict", ATTRS, {"x": 3}),
    "tzdata==2026.6": ("ZoneInfo of the standard library", TZDATA, "2026-07-01T12:00:00+02:00"),
}
"""Requirements, each with what is called, in words and as a plugin, and the result."""


@pytest.mark.parametrize(
    ("requirement", "source", "expected"),
    [
        pytest.param(name, source, expected, marks=compat.requirement(name, called))
        for name, (called, source, expected) in INDEX.items()
    ],
)
@pytest.mark.needs_pip
@live
async def test_packages_of_the_index(
    requirement: str, source: str, expected: Any, make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Well-known packages do their work without a file, with late imports, data files and entry points."""
    folder = make({"main.py": source}, pip_packages.install(requirement, tmp_path_factory))

    assert await _call(folder) == expected


@compat.requirement("pygments==2.21.0", "highlight, with lexer and formatter found by name")
@pytest.mark.needs_pip
@live
async def test_a_package_that_imports_its_parts_late(
    make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Pygments finds a lexer and a formatter by name after loading."""
    folder = make({"main.py": PYGMENTS}, pip_packages.install("pygments==2.21.0", tmp_path_factory))

    html = await _call(folder)

    assert '<span class="k">def</span>' in html


@compat.requirement("jinja2==3.1.6", "the extension module of MarkupSafe, which it needs")
@pytest.mark.needs_pip
@live
async def test_an_extension_module_that_supports_subinterpreters(
    make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is loaded from the plugin's folder, in either interpreter."""
    source = "import markupsafe._speedups as module\ndef f(): return module.__file__\n"
    folder = make({"main.py": source}, pip_packages.install("jinja2==3.1.6", tmp_path_factory))

    assert (await _call(folder)).endswith(".so")


@compat.requirement(
    "msgpack==1.2.4",
    "its extension module",
    'runs with `"interpreter": "main"`; otherwise refused with a sentence that says so',
)
@pytest.mark.needs_pip
@live
async def test_an_extension_module_that_does_not(
    make: Make, interpreter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The error names it and the way out, which works."""
    source = "import msgpack._cmsgpack as module\ndef f(): return module.Packer().pack([1])\n"
    folder = make({"main.py": source}, pip_packages.install("msgpack==1.2.4", tmp_path_factory))

    if interpreter == "main":
        assert await _call(folder) == b"\x91\x01"
        return
    with pytest.raises(InvalidFormat) as caught:
        await _call(folder)
    assert "the extension module msgpack._cmsgpack does not support subinterpreters" in str(caught.value)
    assert '"interpreter": "main" in plugin.json' in str(caught.value)


@compat.requirement("msgpack==1.2.4", "unpackb", "runs; in the default interpreter by its Python code")
@pytest.mark.needs_pip
@live
async def test_a_package_that_does_without_its_extension_module(
    make: Make, interpreter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It finds the ImportError that it waits for, and its own Python code instead."""
    source = "import msgpack\ndef f(): return [msgpack.unpackb(b'\\x91\\x01'), msgpack.Packer.__module__]\n"
    folder = make({"main.py": source}, pip_packages.install("msgpack==1.2.4", tmp_path_factory))

    assert await _call(folder) == [[1], {"own": "msgpack.fallback", "main": "msgpack._cmsgpack"}[interpreter]]


NUMPY = """
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy

def f():
    square = numpy.array([[2.0, 1.0], [1.0, 3.0]])
    return numpy.linalg.solve(square, numpy.array([3.0, 5.0])).round(9).tolist()
"""


@compat.requirement(
    "numpy==2.5.5",
    "linalg.solve",
    'runs with `"interpreter": "main"`, one thread and 128 MiB; in the default interpreter it is refused',
)
@pytest.mark.needs_pip
@live
async def test_numpy(
    make: Make, interpreter: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It needs no system call beyond the level's: what it asks in vain, it does without."""
    folder = make({"main.py": NUMPY}, pip_packages.install("numpy==2.5.5", tmp_path_factory))
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {memory: 128MiB}\n")
    async with PluginManager(policy=policy) as manager:
        if interpreter == "own":
            with pytest.raises(InvalidFormat, match="does not support subinterpreters"):
                await manager.load_plugin(folder)
            return
        plugin = await manager.load_plugin(folder)
        assert await manager.execute_plugin(plugin, "f") == [0.8, 1.4]


@pytest.mark.needs_pip
@live
async def test_an_extension_module_that_is_imported_too_late(
    make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It needs its file, so the error says to import it at the top."""
    source = "def f():\n    import markupsafe._speedups\n"
    folder = make({"main.py": source}, pip_packages.install("jinja2==3.1.6", tmp_path_factory))

    with pytest.raises(ExecutionFailed, match="no file can be opened after loading; import it at the top"):
        await _call(folder)


# ---- what packages ask about themselves


ASKS = """
import importlib.metadata as metadata
import importlib.resources as resources
import inspect, linecache, pkgutil, runpy

import shop, shop.goods, spread.left, spread.right

def versions():
    found = metadata.distribution("The.Shop")
    names = [[dist.name for dist in metadata.distributions(**where)]
             for where in ({}, {"path": ["/elsewhere"]}, {"path": [shop.__path__[0].rpartition("/")[0]]})]
    entry, = metadata.entry_points(group="shop.goods")
    files = {str(file): file.locate().exists() for file in found.files}
    return [metadata.version("the_shop"), names, entry.name, entry.load()(), files]

def data():
    folder = resources.files("shop")
    price = folder.joinpath("data", "prices.txt")
    with price.open("rb") as file:
        raw = file.read()
    names = sorted(item.name for item in (folder / "data").iterdir())
    return [price.read_text(), raw, names, resources.read_text("shop.goods", "apple.txt"),
            pkgutil.get_data("shop", "data/prices.txt"), folder.joinpath("../../main.py").is_file(),
            folder.joinpath("nothing").is_file(), resources.files(spread).joinpath("left.py").is_file()]

def modules():
    return [[[m.name, m.ispkg] for m in pkgutil.iter_modules(shop.__path__, "shop.")],
            sorted(m.name for m in pkgutil.walk_packages(shop.__path__, "shop.")),
            [m.name for m in pkgutil.iter_modules(spread.__path__)],
            [m.module_finder.find_spec(m.name).name for m in pkgutil.iter_modules(shop.__path__, "shop.")]]

def places():
    return [shop.__file__, shop.__path__, list(spread.__path__), inspect.getsource(shop.goods.pear),
            linecache.getline(shop.__file__, 1, vars(shop)), runpy.run_module("shop.script")["result"]]

def refused():
    found = []
    for attempt in (lambda: resources.files("shop").joinpath("new").open("w"),
                    lambda: resources.files("shop").joinpath("new").read_text(),
                    lambda: pkgutil.get_data("shop", "new"),
                    lambda: metadata.version("nothing")):
        try:
            attempt()
        except (OSError, metadata.PackageNotFoundError) as error:
            found.append(type(error).__name__)
    return found
"""
SHOP = {
    "main.py": ASKS,
    "vendor/shop/__init__.py": "# the shop\n",
    "vendor/shop/data/prices.txt": "apple 1\n",
    "vendor/shop/data/places.txt": "here\n",
    "vendor/shop/goods/__init__.py": "def pear():\n    return 'a pear'\n",
    "vendor/shop/goods/apple.txt": "an apple",
    "vendor/shop/script.py": "result = __name__\n",
    "vendor/the_shop-2.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: The-Shop\nVersion: 2.1\n",
    "vendor/the_shop-2.1.dist-info/entry_points.txt": "[shop.goods]\npear = shop.goods:pear\n",
    "vendor/the_shop-2.1.dist-info/RECORD": "shop/__init__.py,,\nshop/gone.py,,\n",
    "vendor/spread/left.py": "",
    "more/spread/right.py": "",
}


@live
async def test_what_packages_ask_about_themselves(make: Make) -> None:
    """Metadata, entry points, data files, modules by folder, sources: from memory, after loading."""
    folder = make(SHOP, paths=["vendor", "more"])
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)

        async def call(function: str) -> Any:
            return await manager.execute_plugin(plugin, function)

        assert await call("versions") == [
            *("2.1", [["The-Shop"], [], ["The-Shop"]], "pear", "a pear", {"shop/__init__.py": True})
        ]
        assert await call("data") == [
            *("apple 1\n", b"apple 1\n", ["places.txt", "prices.txt"], "an apple", b"apple 1\n"),
            *(True, False, True),
        ]
        assert await call("modules") == [
            [["shop.goods", True], ["shop.script", False]],
            ["shop.goods", "shop.script"],
            ["left", "right"],
            ["shop.goods", "shop.script"],
        ]
        file, path, spread, *sources = await call("places")
        assert (file, [file]) == (f"{path[0]}/__init__.py", [f"{place}/__init__.py" for place in path])
        assert [os.path.relpath(place, path[0]) for place in spread] == ["../spread", "../../more/spread"]
        assert sources == ["def pear():\n    return 'a pear'\n", "# the shop\n", "shop.script"]
        assert await call("refused") == [
            *("OSError", "FileNotFoundError", "FileNotFoundError", "PackageNotFoundError")
        ]


# ---- which module is found


MODULES: list[tuple[dict[str, str], list[str]]] = [
    # The plugin's own goes before what is vendored, the first folder before the second.
    ({"a.py": "x = 1", "vendor/a.py": "x = 2"}, ["vendor"]),
    ({"one/a.py": "x = 1", "two/a/__init__.py": "x = 2"}, ["one", "two"]),
    # A package goes before a module, and both before a folder without code.
    ({"vendor/a.py": "x = 2", "vendor/a/__init__.py": "x = 1"}, ["vendor"]),
    ({"a/inner.py": "x = 2", "vendor/a.py": "x = 1"}, ["vendor"]),
    # A folder inside of a folder.
    ({"lib/vendor/a.py": "x = 1", "lib/b.py": ""}, ["lib/vendor"]),
    # What is vendored does not hide the standard library, as site-packages does not; the plugin's own may.
    (
        {"a.py": "import colorsys; x = int(hasattr(colorsys, 'rgb_to_hsv'))", "vendor/colorsys.py": ""},
        ["vendor"],
    ),
    ({"a.py": "import string; x = string.x", "string.py": "x = 1"}, []),
    # Source goes before bytecode.
    ({"vendor/a.py": "x = 1", "vendor/a.pyc": "no code"}, ["vendor"]),
]


@live
async def test_which_module_is_found(make: Make) -> None:
    """As on Python's own path."""
    async with PluginManager() as manager:
        for files, paths in MODULES:
            folder = make({**files, "main.py": "import a\ndef f(): return a.x\n"}, paths=paths)
            plugin = await manager.load_plugin(folder)

            assert await manager.execute_plugin(plugin, "f") == 1, files


@live
async def test_bytecode_alone_is_no_module(make: Make, tmp_path: Path) -> None:
    """Only a source is code that somebody can have read."""
    folder = make({"main.py": "import hidden\ndef f(): pass\n", "vendor/a.py": ""}, paths=["vendor"])
    (tmp_path / "hidden.py").write_text("x = 1")
    py_compile.compile(str(tmp_path / "hidden.py"), cfile=str(folder / "vendor" / "hidden.pyc"))

    with pytest.raises(InvalidFormat, match="No module named 'hidden'"):
        await _call(folder)


# ---- what goes wrong


FOREIGN = "shop/_fast.cpython-39-x86_64-linux-gnu.so"
WRONG: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({}, {"paths": "vendor"}, 'must be a list of folders, like ["vendor"]'),
    ({}, {"paths": ["nothing"]}, "names 'nothing', which is no folder of the plugin"),
    ({}, {"paths": ["../vendor"]}, "names '../vendor', which is no folder of the plugin"),
    ({}, {"paths": [1]}, "names 1, which is no folder of the plugin"),
    ({}, {"paths": [""]}, "names '', which is no folder of the plugin"),
    ({}, {"path": ["vendor"]}, "unknown key 'path'"),
    (
        {"main.py": "import shop.goods\ndef f(): pass\n", "lib/vendor/shop/goods.py": ""},
        {},
        'lib/vendor/shop/goods.py is there: "python": {"paths": ["lib/vendor"]} in plugin.json',
    ),
    (
        {"main.py": "import shop._fast\ndef f(): pass\n", "shop/__init__.py": "", FOREIGN: ""},
        {},
        f"{FOREIGN} is for another Python than this 3.",
    ),
    ({"main.py": "import no_such\ndef f(): pass\n"}, {}, "ModuleNotFoundError: No module named 'no_such'"),
    ({"frys.py": ""}, {}, "frys.py would hide the host's frys"),
    ({"frys/x.py": ""}, {}, "frys/ would hide the host's frys"),
]


@live
async def test_what_to_do_about_a_plugin_that_does_not_load(make: Make) -> None:
    """The error says it."""
    async with PluginManager() as manager:
        for files, python, message in WRONG:
            folder = make({"main.py": "def f(): pass\n", "vendor/a.py": "", **files}, **python)
            with pytest.raises(InvalidFormat) as caught:
                await manager.load_plugin(folder)

            assert message in str(caught.value)


@pytest.mark.parametrize("limits", ["{inodes: 20}", "{file_size: 1MiB}", "{files: 1MiB}"])
@live
async def test_more_files_than_the_policy_allows(limits: str, make: Make, tmp_path: Path) -> None:
    """The plugin is refused with the limits' names, before any of its code runs."""
    many = {f"vendor/part{number}.py": "" for number in range(20)}
    folder = make(
        {"main.py": "def f(): pass\n", **many, "vendor/data.txt": "x" * (2 << 20)}, paths=["vendor"]
    )
    (tmp_path / "policy.yaml").write_text(f"extends: maximum\nlimits: {limits}\n")
    async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
        with pytest.raises(LoadFailed, match=r"its files need more room than its policy gives them \(limits"):
            await manager.load_plugin(folder)


@live
async def test_a_part_of_the_standard_library_that_needs_files(make: Make) -> None:
    """What is not kept in memory can be imported at the top; later, the error says so."""
    late = make({"main.py": "def f():\n    import unittest\n"})
    early = make({"main.py": "import unittest\ndef f(): return unittest.__name__\n"})

    with pytest.raises(ExecutionFailed, match="no file can be opened after loading; import it at the top"):
        await _call(late)
    assert await _call(early) == "unittest"
