"""Which plugins fit each other, told at load."""

import json
from pathlib import Path

import pytest
from support import live

from frys_runtime import DependencyError, Incompatible, PluginManager
from frys_runtime.dependencies import check
from frys_runtime.metadata import Dependency, Format, Metadata


def _plugin(plugin_id: str, version: str, *needs: Dependency) -> Metadata:
    return Metadata(id=plugin_id, version=version, format=Format.PYTHON, dependencies=needs)


def test_a_version_outside_of_the_range_is_incompatible_whichever_came_first() -> None:
    """The error has both plugins, the range, the version that says so, and the one that is there."""
    shop, tax = _plugin("shop", "1.0.0", Dependency("tax", "^1.2")), _plugin("tax", "2.0.0")
    for second, first in ((shop, tax), (tax, shop)):
        with pytest.raises(Incompatible) as caught:
            check(second, {first.id: first})
        assert str(caught.value) == (
            "shop needs tax ^1.2 (says its version 1.0.0), but tax 2.0.0 is there; load versions that fit"
        )
        assert caught.value.plugin_id == "shop"
    check(shop, {"tax": _plugin("tax", "1.9.0")})
    check(_plugin("tax", "1.9.0"), {"shop": shop})


def test_what_is_missing_is_named_unless_it_is_optional() -> None:
    """An optional one may be missing, and must fit when it is there; nobody depends on itself."""
    with pytest.raises(DependencyError, match=r"shop depends on tax: no plugin .* load a version \^1.2"):
        check(_plugin("shop", "1.0.0", Dependency("tax", "^1.2")), {})
    optional = _plugin("shop", "1.0.0", Dependency("tax", "^1.2", optional=True))
    check(optional, {"other": _plugin("other", "1.0.0")})
    with pytest.raises(Incompatible):
        check(optional, {"tax": _plugin("tax", "0.9.0")})
    with pytest.raises(DependencyError, match="itself"):
        check(_plugin("shop", "1.0.0", Dependency("shop")), {})


def test_a_range_that_is_none_is_a_value_error() -> None:
    """Also for metadata that the host program makes itself."""
    with pytest.raises(ValueError, match="versionRange"):
        Dependency("tax", "newest")
    with pytest.raises(ValueError, match="semantic version"):
        _plugin("shop", "1")


@live
async def test_a_manager_refuses_what_does_not_fit(tmp_path: Path) -> None:
    """By the id under which a plugin is loaded, and nothing is left of the refused one."""
    (tmp_path / "shop").mkdir()
    document = {"id": "shop", "version": "1.0.0", "format": "python", "entry": "main.py"}
    needs = [{"pluginId": "tax", "versionRange": "~1.2"}]
    (tmp_path / "shop" / "plugin.json").write_text(json.dumps({**document, "dependencies": needs}))
    (tmp_path / "shop" / "main.py").write_text("def f(): return 1\n")
    tax = tmp_path / "tax.py"
    tax.write_text("def rate(): return 7\n")
    async with PluginManager() as manager:
        with pytest.raises(DependencyError, match="no plugin of that id"):
            await manager.load_plugin(tmp_path / "shop")
        old = Metadata(id="tax", version="1.1.9", format=Format.PYTHON)
        await manager.load_plugin(tax, metadata=old)
        with pytest.raises(Incompatible):
            await manager.load_plugin(tmp_path / "shop")
        await manager.unload_plugin("tax")
        await manager.load_plugin(
            tax, metadata=Metadata(id="any", version="1.2.1", format=Format.PYTHON), plugin_id="tax"
        )
        await manager.load_plugin(tmp_path / "shop")
        await manager.unload_plugin("tax")
        with pytest.raises(Incompatible, match=r"but tax 1.1.9 is there"):
            await manager.load_plugin(tax, metadata=old)
        assert [info.id for info in manager.list_plugins()] == ["shop"]
