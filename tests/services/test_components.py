"""Components called by other plugins: by the types that they export themselves."""

from pathlib import Path

from support import live
from talk import ALL, talkers
from wasm_build import compile_fixture


@live
async def test_a_component_is_checked_by_the_types_that_it_exports(tmp_path: Path) -> None:
    """What fits arrives and comes back; what does not is refused before the component is told anything."""
    (tmp_path / "shapes.wasm").write_bytes(compile_fixture("shapes"))
    async with talkers(tmp_path, ALL, "a") as talk:
        await talk.manager.load_plugin(tmp_path / "shapes.wasm")
        for function, value in (
            ("same-point", {"x": 3, "full-name": "three"}),
            ("same-shape", "none"),
            ("same-shape", {"round": 7}),
            ("same-colour", "dark-green"),
            ("same-rights", ["read", "write"]),
            ("same-bytes", b"\0\xff"),
            ("maybe", 5),
            ("maybe", None),
        ):
            assert await talk.ask("call", "shapes", function, [value]) == value
        before = talk.manager.plugin("shapes").resource_usage().calls
        for function, value, message in (
            ("same-point", {"x": 3}, "shapes.same-point: args[0] lacks the field 'full-name' of"),
            ("same-shape", {"square": 1}, "has the case 'square'"),
            ("same-colour", "blue", "it must be one of dark-green, red"),
            ("same-rights", ["run"], "args[0][0] is 'run'"),
            ("same-bytes", "text", "args[0] must be bytes, not string"),
        ):
            reason, text = await talk.ask("call", "shapes", function, [value])  # type: ignore[misc]
            assert reason == "invalid"
            assert message in str(text)
        assert talk.manager.plugin("shapes").resource_usage().calls == before


@live
async def test_what_plugin_json_declares_goes_before_what_a_component_exports(tmp_path: Path) -> None:
    """Also as the list of what others may call at all."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "shapes.wasm").write_bytes(compile_fixture("shapes"))
    (folder / "plugin.json").write_text(
        '{"id": "shapes", "version": "1.0.0", "format": "wasm", "entry": "shapes.wasm", '
        '"exports": {"maybe": {"params": ["int"], "returns": "int"}}}'
    )
    async with talkers(tmp_path, ALL, "a") as talk:
        await talk.manager.load_plugin(folder)
        assert await talk.ask("call", "shapes", "maybe", [5]) == 5
        assert (await talk.ask("call", "shapes", "maybe", [None]))[0] == "invalid"  # type: ignore[index]
        assert (await talk.ask("call", "shapes", "same-bytes", [b""]))[0] == "missing"  # type: ignore[index]
