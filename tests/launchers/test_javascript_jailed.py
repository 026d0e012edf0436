"""JavaScript plugins at level Maximum: what the final system-call filter has to leave them."""

from pathlib import Path

import pytest
from support import live

from frys_runtime import PluginManager, ResourceLimitExceeded, Timeout

SOURCE = r"""
export async function everything(data) {
  const seen = [];
  await new Promise((resolve) => setTimeout(resolve, 20));
  const id = setInterval(() => seen.push("tick"), 1);
  await new Promise((resolve) => setTimeout(resolve, 10));
  clearInterval(id);
  await new Promise((resolve) => setImmediate(resolve));
  console.log("%s", "logged", structuredClone(new Map([[1, data]])));
  console.error(new Error("shown"));
  return {
    ticks: seen.length > 0,
    random: crypto.getRandomValues(new Uint8Array(8)), id: crypto.randomUUID(),
    url: new URL("../b?x=é", "https://münchen.example/a/c").href,
    text: new TextDecoder("utf-16le").decode(new Uint8Array([97, 0]))
      + new TextDecoder("latin1").decode(data),
    bad: new TextDecoder().decode(new Uint8Array([0xff])),
    date: new Date(0).toString().length > 0, now: performance.now() > 0,
  };
}
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms, "slept"));
export const sleepAfter = async (ms) => { await sleep(5); return sleep(ms) };
"""


@live
async def test_the_filter_leaves_what_the_globals_need(tmp_path: Path) -> None:
    """Timers sleep, randomness comes from the kernel, text is decoded: with no call that the jail forbids."""
    file = tmp_path / "globals.mjs"
    file.write_text(SOURCE)
    async with PluginManager() as manager:
        first = await manager.load_plugin(file)
        second = await manager.load_plugin(file, plugin_id="second")
        results = [await manager.execute_plugin(one, "everything", b"\x80") for one in (first, second, first)]
        assert len({result["random"] for result in results}) == 3
        assert len({result["id"] for result in results}) == 3
        for result in results:
            assert result["ticks"] is True
            assert result["url"] == "https://xn--mnchen-3ya.example/b?x=%C3%A9"
            assert (result["text"], result["bad"]) == ("a\u20ac", "\ufffd")
            assert (result["date"], result["now"]) == (True, True)
        for one in (first, second):
            assert manager.resource_usage(one).restarts == 0
            assert manager.resource_usage(one).violations == 0


@live
async def test_a_sleep_uses_no_processor_and_ends_at_the_deadline(tmp_path: Path) -> None:
    """Waiting costs no CPU; a sleep longer than its call ends with it, and the plugin goes on."""
    file = tmp_path / "globals.mjs"
    file.write_text(SOURCE)
    async with PluginManager() as manager:
        plugin_id = await manager.load_plugin(file)
        # More sleep than CPU that a call may use: a loop that polls would end in ResourceLimitExceeded.
        policy = tmp_path / "policy.yaml"
        policy.write_text("extends: maximum\nlimits: {cpu_time: 100ms}\n")
        for function in ("sleep", "sleepAfter"):
            with pytest.raises((Timeout, ResourceLimitExceeded)) as ended:
                await manager.execute_plugin(plugin_id, function, 60_000, timeout_ms=100)
            assert isinstance(ended.value, Timeout)
        assert await manager.execute_plugin(plugin_id, "sleep", 1) == "slept"
        async with PluginManager(policy=policy) as strict:
            other = await strict.load_plugin(file)
            assert await strict.execute_plugin(other, "sleep", 400) == "slept"
