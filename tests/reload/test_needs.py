"""Plugins that depend on others: found, loaded in order, and reported with the ways that lead there."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from support import live
from versioned import until, write

from frys_runtime import DependencyError, Incompatible, LoadFailed, PluginManager, ReloadFailed
from frys_runtime.loader import PluginLoader
from frys_runtime.metadata import Dependency, Format, Metadata
from frys_runtime.ranges import Range, Version
from frys_runtime.resolution import Chosen, resolve


def _plugin(name: str, **needs: str) -> Metadata:
    """``app@1.0.0`` with what it needs; a ``?`` behind a range makes that optional."""
    plugin_id, _, version = name.partition("@")
    wanted = [
        Dependency(other, accepted.rstrip("?"), accepted.endswith("?")) for other, accepted in needs.items()
    ]
    return Metadata(
        id=plugin_id, version=version or "1.0.0", format=Format.PYTHON, dependencies=tuple(wanted)
    )


def _plan(root: Metadata, there: Iterable[Metadata], loaded: Iterable[Metadata] = ()) -> list[str]:
    known: dict[str, list[Metadata]] = {}
    for one in loaded:
        known.setdefault(one.id, []).append(one)
    chosen = resolve(root, known, lambda name: [Chosen(f"/{one.id}", one) for one in there if one.id == name])
    return [f"{one.metadata.id} {one.metadata.version}" for one in chosen]


def test_what_is_needed_comes_first() -> None:
    """The highest versions that fit all, each behind what it needs itself; what is loaded stays."""
    there = [
        _plugin("parser@2.0.0", words="^1"),
        _plugin("parser@2.4.0", words="^2"),
        _plugin("parser@3.0.0", words="^3"),
        _plugin("words@1.0.0"),
        _plugin("words@2.0.0"),
        _plugin("words@3.0.0"),
    ]
    assert _plan(_plugin("app", parser=">=2"), there) == ["words 3.0.0", "parser 3.0.0"]
    assert _plan(_plugin("app", parser="^2"), there) == ["words 2.0.0", "parser 2.4.0"]
    assert _plan(_plugin("app", parser=">=2", words="<2"), there) == ["words 1.0.0", "parser 2.0.0"]
    assert _plan(_plugin("app", parser="*"), there, [_plugin("words@2.1.0")]) == ["parser 2.4.0"]
    assert _plan(_plugin("app", parser="*"), there, [_plugin("parser@2.0.0", words="^1")]) == []
    both = [_plugin("words@1.0.0"), _plugin("words@2.0.0")]
    assert _plan(_plugin("app", parser="2.0"), there, both) == ["parser 2.0.0"]


def test_what_is_optional_is_left_out_when_it_is_nowhere() -> None:
    """And when no version of it fits; loaded where one does."""
    there = [_plugin("parser@2.0.0"), _plugin("words@1.0.0")]
    assert _plan(_plugin("app", parser="^2?", words="^2?", none="*?"), there) == ["parser 2.0.0"]


@pytest.mark.parametrize(
    ("there", "needs", "said"),
    [
        (
            [_plugin("parser@2.0.0", words="^1")],
            {"parser": "^2"},
            "parser depends on words: no plugin of that id; app 1.0.0 > parser ^2 > words ^1",
        ),
        (
            [_plugin("parser@2.0.0", words="^1"), _plugin("words@1.0.0"), _plugin("words@2.0.0")],
            {"parser": "*", "words": "^2"},
            "no version fits: app 1.0.0 > words ^2; app 1.0.0 > parser * > words ^1; there are 2.0.0, 1.0.0",
        ),
        (
            [_plugin("parser", words="*"), _plugin("words", parser="*")],
            {"parser": "^1"},
            "parser 1.0.0 > words * > parser *; make one of these optional",
        ),
        ([_plugin("parser", app="*")], {"parser": "^1"}, "app 1.0.0 > parser ^1 > app *"),
        ([_plugin("parser@2.0.0")], {"parser": "^1"}, "app 1.0.0 > parser ^1; there are 2.0.0"),
    ],
)
def test_what_cannot_be_is_told_with_the_way(there: list[Metadata], needs: dict[str, str], said: str) -> None:
    """Missing, in conflict, needing each other: who needs what, from the plugin that was asked for."""
    with pytest.raises(DependencyError) as caught:
        _plan(_plugin("app", **needs), there)
    for part in said.split("; "):
        assert part in str(caught.value)
    assert all(chain.startswith(("app 1.0.0 > ", "parser 1.0.0 > ")) for chain in caught.value.chains)


def test_a_ring_with_an_optional_need_is_opened_there() -> None:
    """That need is left out, and the rest loads."""
    there = [_plugin("parser", words="*"), _plugin("words", parser="*?")]
    assert _plan(_plugin("app", parser="*"), there) == ["words 1.0.0", "parser 1.0.0"]


def test_a_very_long_line_is_refused() -> None:
    """Plugins of strangers cannot exhaust the host."""
    there = [_plugin(f"p{number}", **{f"p{number + 1}": "*"}) for number in range(400)]
    with pytest.raises(DependencyError, match=r"at most 256|steps"):
        _plan(_plugin("app", p0="*"), [*there, _plugin("p400")])


def _sets(names: list[str], there: list[Metadata]) -> Iterable[tuple[Metadata, ...]]:
    """Every choice of one version, or none, of each plugin."""
    choices = [[None, *(one for one in there if one.id == name)] for name in names]
    for some in itertools.product(*choices):
        yield tuple(one for one in some if one is not None)


def _fits(root: Metadata, chosen: tuple[Metadata, ...]) -> bool:
    """Whether nobody lacks anything."""
    versions = {one.id: Version.parse(one.version) for one in chosen}
    return all(
        need.plugin_id in versions and Range.parse(need.version_range).matches(versions[need.plugin_id])
        for one in (root, *chosen)
        for need in one.dependencies
    )


@given(st.data())
def test_a_plan_holds_together(data: st.DataObject) -> None:
    """Whatever depends on whatever: each range is met, needs come first, and what can be found is found."""
    names, versions = ["a", "b", "c", "d"], ["1.0.0", "1.5.0", "2.0.0"]
    ranges = st.sampled_from(["*", "^1", "^2", ">=1.5", "<1.5"])
    needs = st.dictionaries(st.sampled_from(names), ranges, max_size=2)
    there = [
        _plugin(f"{name}@{version}", **{k: v for k, v in data.draw(needs).items() if k != name})
        for name in names
        for version in versions
    ]
    root = _plugin("app", **data.draw(needs))
    refused = ""
    plan: list[Chosen] = []
    try:
        plan = resolve(root, {}, lambda name: [Chosen("/", one) for one in there if one.id == name])
    except DependencyError as error:
        refused = str(error)
    if refused:
        assert "each other" in refused or not any(_fits(root, some) for some in _sets(names, there))
        return
    chosen: dict[str, str] = {}
    for _, one in [*plan, ("", root)]:
        for need in one.dependencies:
            assert Range.parse(need.version_range).matches(Version.parse(chosen[need.plugin_id]))
        assert one.id not in chosen
        chosen[one.id] = one.version


def test_candidates_in_the_plugin_paths(tmp_path: Path) -> None:
    """Folders and files under a plugin's name, or its name, an @ and anything; nothing that is broken."""
    write(tmp_path / "sample", "1.0.0")
    write(tmp_path / "sample@2", "2.0.0")
    write(tmp_path / "samples", "3.0.0")
    write(tmp_path / "sample@other", "4.0.0", id="other")
    (tmp_path / "sample@broken").mkdir()
    (tmp_path / "sample.py").write_text("x = 1\n")
    found = PluginLoader([tmp_path, tmp_path / "nowhere"]).candidates("sample")
    assert sorted(one.metadata.version for one in found) == ["0.0.0", "1.0.0", "2.0.0"]


def _needs(**needs: str) -> list[dict[str, object]]:
    return [{"pluginId": other, "versionRange": accepted} for other, accepted in needs.items()]


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@live
async def test_a_plugin_brings_what_it_depends_on(tmp_path: Path) -> None:
    """In order, from the plugin paths, and nothing of it stays when the plugin itself cannot be loaded."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    write(plugins / "words", "1.2.0", id="words")
    write(plugins / "parser@1", "1.0.0", id="parser", dependencies=_needs(words="^2"))
    write(plugins / "parser@2", "2.0.0", id="parser", dependencies=_needs(words="^1"))
    app = write(tmp_path / "app", "1.0.0", "1 / 0\n", id="app", dependencies=_needs(parser="*"))
    async with PluginManager(plugin_paths=[plugins], max_plugins=3) as manager:
        with pytest.raises(LoadFailed, match="ZeroDivisionError"):
            await manager.load_plugin(app)
        assert manager.list_plugins() == []

        write(app, "1.0.0", id="app", dependencies=_needs(parser="*"))
        events = manager.events()
        await manager.load_plugin(app)
        order = [(await until(events, "loaded")).plugin_id for _ in range(3)]
        assert order == ["words", "parser", "app"]
        assert manager.plugin("parser").metadata.version == "2.0.0"

        with pytest.raises(
            DependencyError, match=r"parser 2.0.0 \(\^1\) would have no version that fits"
        ) as caught:
            await manager.unload_plugin("words")
        assert caught.value.chains == ("parser 2.0.0 > words ^1",)
        write(plugins / "words", "2.0.0", id="words")
        with pytest.raises(ReloadFailed, match=r"parser 2.0.0 \(\^1\)") as refused:
            await manager.reload_plugin("words")
        assert refused.value.step == "fit"
        assert isinstance(refused.value.__cause__, DependencyError)
        await manager.reload_plugin("words", force=True)
        assert manager.plugin("words").metadata.version == "2.0.0"
        for plugin_id in ("app", "parser", "words"):
            await manager.unload_plugin(plugin_id)


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@live
async def test_what_is_loaded_is_not_replaced_for_a_dependant(tmp_path: Path) -> None:
    """A version that does not fit is told, also when another one lies in the plugin paths."""
    write(tmp_path / "words", "1.0.0", id="words")
    write(tmp_path / "words@2", "2.0.0", id="words")
    app = write(tmp_path / "app", "1.0.0", id="app", dependencies=_needs(words="^2"))
    async with PluginManager(plugin_paths=[tmp_path]) as manager:
        await manager.load_plugin(tmp_path / "words")
        with pytest.raises(Incompatible, match=r"words \^2 .* words 1.0.0 is there"):
            await manager.load_plugin("app")
        await manager.load_plugin("words@2", side_by_side=True)
        await manager.load_plugin("app")
        await manager.unload_plugin("words@1")
        about = json.loads((app / "plugin.json").read_text())
        assert about["dependencies"] == _needs(words="^2")
