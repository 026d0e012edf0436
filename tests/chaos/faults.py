"""What breaks: processes that are killed or frozen, files that are damaged."""

import asyncio
import os
import random
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
from chaos.ledger import Ledger
from chaos.plugins import Shelf

_DEADLY = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT, signal.SIGINT)


class Faults:
    """Breaks something every now and then, and lets frozen processes go on later, or never.

    Args:
        rng: Decides what, when and for how long.
        ledger: Is told.
        shelves: The files of the plugins.
        pace: Seconds between two faults, on average.
    """

    def __init__(self, rng: random.Random, ledger: Ledger, shelves: list[Shelf], pace: float) -> None:
        self._rng, self._ledger, self._shelves, self._pace = rng, ledger, shelves, pace
        self._frozen: dict[psutil.Process, asyncio.TimerHandle | None] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        kinds = [
            (self._kill_plugin, 10),
            (self._freeze_plugin, 4),
            (self._kill_server, 2),
            (self._freeze_server, 2),
            (self._kill_keeper, 1),
            (self._freeze_keeper, 1),
            (self._damage, 6),
            (self._stall, 3),
            (self._tidy_cgroups, 1),
            (self._take_descriptors, 2),
        ]
        choices, weights = [kind for kind, _ in kinds], [weight for _, weight in kinds]
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self._pace))
            (fault,) = self._rng.choices(choices, weights)
            try:
                fault()
            except (psutil.Error, OSError):
                continue  # it went by itself meanwhile

    def thaw(self) -> None:
        """Let everything go on that still stands, and have what it needs."""
        self.give_descriptors()
        for process in list(self._frozen):
            self._thaw(process)

    # Processes: the host's children are keepers, theirs fork servers, and theirs plugins.

    def _kill_plugin(self) -> None:
        self._kill(2, self._rng.choice(_DEADLY))

    def _kill_server(self) -> None:
        self._kill(1, signal.SIGKILL)

    def _kill_keeper(self) -> None:
        self._kill(0, signal.SIGKILL)

    def _freeze_plugin(self) -> None:
        self._freeze(2, self._rng.choice((0.05, 0.5, 2.0, 0.0)))

    def _freeze_server(self) -> None:
        self._freeze(1, self._rng.choice((0.1, 1.0, 4.0, 0.0)))

    def _freeze_keeper(self) -> None:
        self._freeze(0, self._rng.choice((0.1, 2.0, 0.0)))

    def _pick(self, depth: int) -> psutil.Process:
        below = [psutil.Process()]
        for _ in range(depth + 1):
            found: list[psutil.Process] = []
            for process in below:
                try:
                    found += process.children()
                except psutil.Error:
                    continue
            below = found
        if not below:
            raise psutil.NoSuchProcess(0)
        return self._rng.choice(below)

    def _kill(self, depth: int, how: signal.Signals) -> None:
        process = self._pick(depth)
        self._tell(f"{how.name} to {process.name()} {process.pid}", how.name)
        process.send_signal(how)

    def _freeze(self, depth: int, seconds: float) -> None:
        process = self._pick(depth)
        self._tell(f"freeze {process.name()} {process.pid} for {seconds or 'ever'}", "SIGSTOP")
        process.suspend()
        timer = asyncio.get_running_loop().call_later(seconds, self._thaw, process) if seconds else None
        self._frozen[process] = timer

    def _thaw(self, process: psutil.Process) -> None:
        timer = self._frozen.pop(process, None)
        if timer is not None:
            timer.cancel()
        try:
            process.resume()
        except psutil.Error:
            return  # it was killed frozen as it was

    # The host and its machine.

    def _stall(self) -> None:
        """The event loop stands still, and finds much at once when it goes on."""
        self._tell("the host stalls", "stall")
        time.sleep(self._rng.choice((0.02, 0.1, 0.4)))

    def _tidy_cgroups(self) -> None:
        """Another program removes cgroups in which nobody is."""
        mine = f"-{os.getpid()}-"
        for tree in Path("/sys/fs/cgroup").rglob("frys-*"):
            if mine in tree.name:
                for group in (*tree.glob("*/"), tree):
                    with suppress(OSError):
                        group.rmdir()
                        self._tell(f"removed {group}", "cgroup removed")

    def _take_descriptors(self) -> None:
        """For a moment, this process may open hardly anything."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        seconds = self._rng.choice((0.05, 0.3, 1.0))
        self._tell(f"no descriptors for {seconds} s", "no descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + self._rng.randrange(4), hard))
        asyncio.get_running_loop().call_later(seconds, self.give_descriptors)

    @staticmethod
    def give_descriptors() -> None:
        """Descriptors are there again."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    # Files.

    def _damage(self) -> None:
        shelf = self._rng.choice(self._shelves)
        file = self._rng.choice(shelf.files())
        whole = file.read_bytes()
        way = self._rng.choice(("truncated", "half-written", "garbage", "emptied", "removed"))
        self._tell(f"{shelf.kind}/{file.name} {way}", "damage")
        match way:
            case "truncated":
                os.truncate(file, self._rng.randrange(len(whole) + 1))
            case "half-written":
                self._write_by_halves(file, whole)
            case "garbage":
                file.write_bytes(self._rng.randbytes(len(whole)))
            case "emptied":
                file.write_bytes(b"")
            case "removed":
                file.unlink()

    def _write_by_halves(self, file: Path, whole: bytes) -> None:
        handle = file.open("wb", buffering=0)
        handle.write(whole[: len(whole) // 2])

        def finish() -> None:
            handle.write(whole[len(whole) // 2 :])
            handle.close()

        asyncio.get_running_loop().call_later(self._rng.uniform(0.05, 0.4), finish)

    def _tell(self, what: str, counted: str) -> None:
        self._ledger.note(what)
        self._ledger.counts[counted] += 1
