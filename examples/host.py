"""A host program: it loads a plugin that it does not trust, calls it, and survives it."""

import asyncio
import sys
from pathlib import Path

from frys_runtime import PluginError, PluginManager, SandboxConfig

HERE = Path(__file__).parent


async def main(text: str) -> None:
    """Count and reverse the words of a text in two plugins."""
    limits = SandboxConfig(max_memory=32 << 20, max_execution_time=2000)
    async with PluginManager(resource_limits=limits) as manager:
        words = await manager.load_plugin(HERE / "words.py")
        print(await manager.execute_plugin(words, "count", text))

        script = await manager.load_plugin(HERE / "words.js", plugin_id="script")
        print(await manager.execute_plugin(script, "reverse", text))
        try:
            await manager.execute_plugin(script, "missing")
        except PluginError.ExecutionFailed as error:
            print(error)
        print(manager.resource_usage(script))


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "to be or not to be"))
