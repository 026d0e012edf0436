"""Rate limits: buckets of tokens that refill, one for each address or token, in bounded memory."""

import time
from collections import OrderedDict
from typing import Final

_MOST: Final = 100_000


class Limit:
    """So many at once, and so many a second in the long run, of each."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._rate, self._burst = per_second, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> float:
        """Take one from somebody's bucket.

        Returns:
            0, or the seconds after which it makes sense to try again; then nothing was taken.
        """
        now = time.monotonic()
        held, since = self._buckets.get(who, (float(self._burst), now))
        held = min(float(self._burst), held + (now - since) * self._rate)
        if held < 1:
            return (1 - held) / self._rate
        self._buckets[who] = (held - 1, now)
        self._buckets.move_to_end(who)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return 0

    def wait(self, who: str) -> float:
        """The seconds until somebody can take one; 0 when they can now."""
        if who not in self._buckets:
            return 0
        held, since = self._buckets[who]
        held += (time.monotonic() - since) * self._rate
        return 0 if held >= 1 else (1 - held) / self._rate
