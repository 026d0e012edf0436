"""Plugins that talk to their host and to each other, for the tests of services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support import FIXTURES

from frys_runtime import MessageValue, PluginManager

TALKER = FIXTURES / "python" / "talker"

ALL = """
extends: maximum
host_functions: [log, config, kv, price, "slow*", broken]
limits: {messages: 5000/s, execution_time: 10s}
messages: {call: {"*": ["*"]}, publish: ["*"], subscribe: ["*"]}
config: {greeting: good day}
"""
NOTHING = """
extends: maximum
host_functions: []
"""


class Talk:
    """A manager with talkers."""

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager

    async def ask(self, service: str, *args: MessageValue, who: str = "a") -> MessageValue:
        """Have a talker ask its host; a refusal comes back as [reason, message]."""
        return await self.manager.execute_plugin(who, "ask", service, list(args))

    async def seen(self, plugin: str, count: int) -> MessageValue:
        """The events that a talker has handled, once there are so many."""
        for _ in range(200):
            seen = await self.manager.execute_plugin(plugin, "seen")
            if len(seen) >= count:  # type: ignore[arg-type]
                break
            await asyncio.sleep(0.01)
        return seen


@asynccontextmanager
async def talkers(folder: Path, policy: str, *ids: str, **settings: object) -> AsyncIterator[Talk]:
    """Talkers under a policy."""
    file = folder / "policy.yaml"
    file.write_text(policy)
    async with PluginManager(policy=file, **settings) as manager:  # type: ignore[arg-type]
        for plugin_id in ids or ("a",):
            await manager.load_plugin(TALKER, plugin_id=plugin_id)
        yield Talk(manager)
