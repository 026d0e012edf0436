"""Plugins of every format call each other while callers give up, and callees are killed, replaced, unloaded.

pytest tests/chaos/test_chatter.py --chaos-seed 7 --chaos-seconds 2700   # a third of that
"""

import asyncio
import gc
import logging
import os
import random
from pathlib import Path

import pytest
from chaos.chatter import POLICY, Chatter, write_plugins
from chaos.ledger import Ledger
from supervised import until
from support import live

from frys_runtime import PluginManager
from frys_runtime.busy_poll import attention_of
from frys_runtime.pool import Pool

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
    pytest.mark.needs_gcc,
]
_DESCRIPTORS = 16
"""By which a busy second differs from another."""


@pytest.mark.timeout(0)
@pytest.mark.xdist_group("chaos")
def test_every_answer_belongs_to_its_question(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends in the middle; afterwards every instance is free, and nobody waits."""
    seed = int(request.config.getoption("--chaos-seed"))
    ledger = Ledger()
    with caplog.at_level(logging.ERROR):
        _chat(tmp_path, seed, request.config.getoption("--chaos-seconds") / 3, ledger)
    lines = [
        f"seed {seed}, what does not hold:",
        *ledger.broken,
        "before the first of these:",
        *ledger.story(),
    ]
    assert not ledger.broken, "\n".join(lines)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    answered = {what for what in ledger.counts if what.startswith("answered")}
    assert len(answered) == 7, ledger.counts
    assert min(ledger.counts[what] for what in ("given up", "killed", "reloaded", "loaded")) > 2, (
        ledger.counts
    )
    print(dict(sorted(ledger.counts.items())))


@live
async def _chat(folder: Path, seed: int, seconds: float, ledger: Ledger) -> None:
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: ledger.fail(
            f"the event loop: {context.get('message')}: {context.get('exception')!r}"
        )
    )
    write_plugins(folder)
    (folder / "policy.yaml").write_text(POLICY)
    async with PluginManager(policy=folder / "policy.yaml", max_plugins=20) as manager:
        chatter = Chatter(manager, random.Random(seed), ledger, folder)
        await chatter.load()
        await chatter.chat(seconds / 4)
        early = len(os.listdir("/proc/self/fd"))
        await chatter.chat(seconds * 3 / 4)
        await _look_at_the_books(manager, chatter, ledger)
        if (now := len(os.listdir("/proc/self/fd"))) > early + _DESCRIPTORS:
            ledger.fail(f"{now} descriptors, {early} before")


async def _look_at_the_books(manager: PluginManager, chatter: Chatter, ledger: Ledger) -> None:
    """Nothing is under way: all that was taken was given back, and all that was begun has ended."""
    deployments = manager._loaded.deployments.values()
    await until(lambda: not any(deployment._retiring for deployment in deployments))
    for deployment in deployments:
        for pool in deployment.pools():
            await until(lambda pool=pool: not pool._under_way and not pool._fleet.instances.starting)  # type: ignore[misc]
            await until(lambda pool=pool: _is_free(pool))  # type: ignore[misc]
    await asyncio.sleep(0.1)
    communicator = manager.communicator
    if waits := communicator._waits.told():
        ledger.fail(f"somebody waits: {waits}")
    if communicator._waits._waiting:
        ledger.fail(f"somebody is counted as waiting: {communicator._waits._waiting}")
    if awaited := attention_of(asyncio.get_running_loop())._awaited:
        ledger.fail(f"{len(awaited)} lanes are waited for")
    gc.collect()
    if communicator._traffic.listeners:
        ledger.fail("somebody listens still")
    channels = communicator.stats().channels
    for channel, counts in channels.items():
        if sum(counts.latency.counts) != counts.calls or counts.errors > counts.calls:
            ledger.fail(f"{channel}: {counts}")
    made = sum(counts.calls for (sender, _, _), counts in channels.items() if not sender)
    if made != chatter.made:
        ledger.fail(f"{chatter.made} calls were made, and {made} counted")
    of_host = sum(counts.calls for (_, receiver, _), counts in channels.items() if not receiver)
    if of_host != chatter.host_calls:
        ledger.fail(f"{chatter.host_calls} calls of the host program's functions, and {of_host} counted")


def _is_free(pool: Pool) -> bool:
    fleet = pool._fleet
    return all(
        slot.is_vacant or (slot.is_ready and slot in fleet._turns.free) for slot in fleet.instances.all
    )
