"""A host program that lives through chaos: ``python tests/chaos/host.py --seed 7 --seconds 600``.

It prints a report as JSON; its status is 1 when something did not hold. The same seed makes the same
decisions; what the kernel and the other processes do between them is its own.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from chaos.faults import Faults
from chaos.ledger import Ledger
from chaos.plugins import KINDS, POLICY, Shelf
from chaos.workload import Workload
from support import leftovers

from frys_runtime import PluginManager

MEMORY = 32 << 20
"""Bytes by which the host may grow from its first seconds to its end."""
END_SECONDS = 60


async def _until_killed(ledger: Ledger, folder: Path, seed: int, pace: float, fault_pace: float) -> None:
    """Live like that, and remember what is loaded, until somebody kills this program."""
    (folder / "plugins").mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    shelves = {kind: Shelf(folder / "plugins", kind) for kind in KINDS}
    with (folder / "journal").open("w") as ledger.journal:
        async with PluginManager(
            policy=folder / "policy.yaml", state_dir=folder / "state", hot_reload=True, restore=True
        ) as manager:
            work = Workload(manager, random.Random(f"{seed} work"), ledger, shelves, pace)
            await work.load()
            work.start()
            print("ready", flush=True)
            await Faults(random.Random(f"{seed} faults"), ledger, list(shelves.values()), fault_pace).run()


async def _live(
    ledger: Ledger, folder: Path, seed: int, seconds: float, pace: float, fault_pace: float
) -> None:
    ledger.listen()
    plugins = folder / "plugins"
    plugins.mkdir()
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    shelves = {kind: Shelf(plugins, kind) for kind in KINDS}
    async with PluginManager(policy=policy, hot_reload=True, state_dir=folder / "state") as manager:
        work = Workload(manager, random.Random(f"{seed} work"), ledger, shelves, pace)
        await work.load()
        faults = Faults(random.Random(f"{seed} faults"), ledger, list(shelves.values()), fault_pace)
        work.start()
        breaking = asyncio.create_task(faults.run())
        await asyncio.sleep(min(seconds / 4, 15))
        early = _memory()
        await asyncio.sleep(seconds - min(seconds / 4, 15))
        breaking.cancel()
        faults.thaw()
        await work.stop()
        await work.all_answer()
        await work.check_stored()
        grown = _memory() - early
        ledger.counts["grown KiB"] = grown >> 10
        if grown > MEMORY:
            ledger.fail(f"the host has grown by {grown >> 20} MiB")
        work.start()
        breaking = asyncio.create_task(faults.run())
        await asyncio.sleep(2)
        ledger.note("closing while all goes on")
        began = time.monotonic()
        try:
            async with asyncio.timeout(END_SECONDS):
                await manager.close(drain_ms=random.Random(seed).choice((0, 500)))
        except TimeoutError:
            ledger.fail(f"close has not ended after {END_SECONDS} s")
        ledger.counts["close ms"] = round((time.monotonic() - began) * 1000)
        breaking.cancel()
        faults.thaw()
        await work.stop()
    if ledger.asked:
        ledger.fail(f"{ledger.asked} questions are still being answered")
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(100):
        if not rest:
            break
        await asyncio.sleep(0.02)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        ledger.fail(f"a task is left: {task!r}")
    async with PluginManager(policy=policy, state_dir=folder / "state", spares=0) as manager:
        for kind in {kind for kind, _ in ledger.acknowledged}:
            await manager.load_plugin(shelves[kind].write(beside=True)[1])
        await Workload(manager, random.Random(0), ledger, shelves, pace).check_stored()


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _settled(like: dict[str, Any] | None = None) -> dict[str, Any]:
    """What it holds once threads that are ending have ended."""
    held = _held()
    for _ in range(500):
        if held == like or (like is None and held["tasks of the kernel"] == 1):
            break
        time.sleep(0.02)
        gc.collect()
        held = _held()
    return held


def _held() -> dict[str, Any]:
    """What a process holds of its machine."""
    return {
        "descriptors": sorted(_descriptors()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks of the kernel": len(os.listdir("/proc/self/task")),
        "mounts": Path("/proc/self/mountinfo").read_text().count("\n"),
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),
    }


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
            if what == "anon_inode:[eventpoll]":  # what it waits for tells whose it is
                what += " ".join(Path(f"/proc/self/fdinfo/{name}").read_text().split())
            found.append(f"{name} {what}")
        except FileNotFoundError:
            continue  # that of the look itself
    return found


def run(seed: int, seconds: float, pace: float, fault_pace: float) -> dict[str, Any]:
    """Live through it; the report."""
    ledger = Ledger()
    folder = Path(tempfile.mkdtemp(prefix="frys-chaos-"))
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "tmp")
    (folder / "tmp").mkdir()
    try:
        asyncio.run(_warm(folder))
        before = _settled()
        asyncio.run(_live(ledger, folder, seed, seconds, pace, fault_pace))
        for found in leftovers(os.getpid()):
            ledger.fail(f"left: {found}")
        after = _settled(before)
        for name, value in before.items():
            if after[name] != value:
                ledger.fail(f"{name} are left: {value} before, {after[name]} now")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "seed": seed,
        "broken": ledger.broken,
        "counts": dict(sorted(ledger.counts.items())),
        "slowest": round(ledger.slowest, 3),
        "story": ledger.story() if ledger.broken else [],
    }


async def _warm(folder: Path) -> None:
    """Have Python import what it will, and make what it keeps for good."""
    (folder / "warm").mkdir()
    shelf = Shelf(folder / "warm", "guest")
    async with PluginManager(hot_reload=True) as manager:
        await manager.load_plugin(shelf.write()[1])
        await manager.execute_plugin("guest", "plain", 1)


def main() -> int:
    """Read the command line, live, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pace", type=float, default=0.2, help="seconds between two calls of one caller")
    parser.add_argument("--fault-pace", type=float, default=0.4, help="seconds between two faults")
    parser.add_argument("--until-killed", type=Path, metavar="FOLDER", help="live there until somebody kills")
    given = parser.parse_args()
    if given.until_killed:
        asyncio.run(_until_killed(Ledger(), given.until_killed, given.seed, given.pace, given.fault_pace))
    report = run(given.seed, given.seconds, given.pace, given.fault_pace)
    print(json.dumps(report, indent=1))
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
