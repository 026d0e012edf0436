"""What has to hold whatever breaks, written down while it happens."""

import asyncio
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import IO, Any, Final

from chaos.plugins import PARTS, parts_of

_KEPT: Final = 60
_BEAT: Final = 0.02


class Ledger:
    """Counts what was done, and collects what must never be.

    Attributes:
        broken: Sentences about invariants that did not hold, with the moment.
        counts: What became of the calls, and which faults there were.
        slowest: Seconds by which a call outlasted its deadline, at most.
        stood_still: Seconds for which this program did not run at all, for want of a processor or on purpose.
        asked: Questions of plugins that the host program answers now.
        journal: Where stored values are written down, for who looks after this program was killed.
        floor: For each plugin, the version that is known to serve: calls made from now on get none below it.
    """

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self.stood_still = 0.0
        self.asked = 0
        self.journal: IO[str] | None = None
        self.floor: dict[str, int] = {}
        self.acknowledged: dict[tuple[str, str], int] = {}
        self.attempted: dict[tuple[str, str], int] = {}
        self._did: Counter[int] = Counter()
        self._seen: Counter[tuple[str, int]] = Counter()
        self._story: deque[str] = deque(maxlen=_KEPT)
        self._first: list[str] = []
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        """One line of what happened; the last of them are told with a failure."""
        self._story.append(f"{time.monotonic() - self._began:7.3f} {text}")

    def fail(self, text: str) -> None:
        """An invariant does not hold."""
        self.note(f"BROKEN: {text}")
        self._first = self._first or list(self._story)
        if len(self.broken) < 20:
            self.broken.append(f"{time.monotonic() - self._began:.3f} s: {text}")

    def story(self) -> list[str]:
        """What happened before the first thing that must never be."""
        return self._first

    # Calls.

    def answered(self, kind: str, call: int, floor: int, written: set[int], answer: Any) -> None:
        """A call was answered: by one version as a whole, not by an old one, and it was this call."""
        try:
            parts, back = parts_of(answer, kind)
        except ValueError as error:
            self.fail(f"{kind}, call {call}: {error}")
            return
        if len(parts) != PARTS or len(set(parts)) != 1:
            self.fail(f"{kind}, call {call}: a mix of versions, {parts}")
        elif parts[0] not in written:
            self.fail(f"{kind}, call {call}: version {parts[0]} was never written")
        elif parts[0] < floor:
            self.fail(f"{kind}, call {call}: version {parts[0]}, and {floor} served when it was made")
        if back != call:
            self.fail(f"{kind}, call {call}: it got the answer to call {back}")

    def late(self, what: str, seconds: float, grace: float) -> None:
        """A call ended so long after its deadline."""
        self.slowest = max(self.slowest, seconds)
        if seconds > grace:
            self.fail(f"{what}: it ended {seconds:.2f} s after its deadline")

    def did(self, call: int, most: int = 1) -> None:
        """A plugin works on a call."""
        self._did[call] += 1
        if self._did[call] > most:
            self.fail(f"call {call} was worked on {self._did[call]} times")

    def seen(self, who: str, number: int) -> None:
        """A subscriber handles an event."""
        self._seen[who, number] += 1
        self.counts["events handled"] += 1
        if self._seen[who, number] > 1:
            self.fail(f"event {number} came to {who} {self._seen[who, number]} times")

    # Stored values.

    def attempt(self, kind: str, key: str) -> int:
        """A new value that is about to be stored."""
        value = self.attempted.get((kind, key), 0) + 1
        self.attempted[kind, key] = value
        self._write("attempted", kind, key, value)
        return value

    def acknowledge(self, kind: str, key: str, value: int) -> None:
        """A plugin said that a value is stored."""
        self.acknowledged[kind, key] = value
        self._write("acknowledged", kind, key, value)

    def _write(self, *words: object) -> None:
        if self.journal is not None:
            print(*words, file=self.journal, flush=True)

    def read(self, journal: Path) -> None:
        """Know what one that was killed had written down."""
        for line in journal.read_text().splitlines():
            what, kind, key, value = line.split()
            (self.attempted if what == "attempted" else self.acknowledged)[kind, key] = int(value)

    def stored(self, kind: str, key: str, value: int | None) -> None:
        """A stored value was read: it is the last acknowledged one, or a later one that was tried."""
        least, most = self.acknowledged.get((kind, key), 0), self.attempted.get((kind, key), 0)
        if not least <= (value or 0) <= most:
            self.fail(f"{kind} has {value} under {key}; {least} was acknowledged, {most} the last tried")

    # What nobody may leave to chance.

    async def keep_time(self) -> None:
        """Find out for how long this program stands still; until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT
            await asyncio.sleep(_BEAT)
            if (late := loop.time() - due) > _BEAT:
                self.stood_still += late

    def listen(self) -> None:
        """Count as broken what the event loop or the interpreter would only print."""
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: self.fail(
                f"the event loop: {context.get('message')}: {context.get('exception')!r}"
            )
        )
        sys.unraisablehook = lambda it: self.fail(
            f"unraisable: {it.exc_value!r} in {it.object!r}: {it.err_msg}"
        )
