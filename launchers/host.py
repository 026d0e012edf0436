"""The host as a plugin process sees it: it asks, and waits for the answer.

Only while the plugin loads or serves a call is somebody there to answer. Whatever stands between a plugin
and this object is convenience: the host decodes, checks and authorises every question as if the plugin had
written its bytes by hand, which it can.
"""

from _thread import allocate_lock

from . import interrupt
from .codec import pack, read, unpack
from .failures import BadValue, HostRefused
from .values import Value

TYPE_CHECKING = False  # importing the module below costs memory in every plugin
if TYPE_CHECKING:
    from typing import Any

    from .serve import Lane

MIN_QUESTION = 1 << 16
"""Bytes that a question may have, however little a result may."""

_ASK = b"\x93\x05"  # the head of [5, service, args]
_REFUSAL = 4
_HEADS = {service: _ASK + pack(service) for service in ("call", "config", "emit", "host", "kv.get", "log")}


class Host:
    """Asks the host on the plugin's lane, one question at a time.

    Args:
        lane: The plugin's lane; without one, every question is refused.
    """

    def __init__(self, lane: "Lane | None" = None) -> None:
        self._lane = lane
        self._listens = False
        self._most = 0
        # A plugin's threads may ask, too; an answer must not go to the wrong one, nor cross a result.
        self._turn = allocate_lock()

    def hand_over(self) -> tuple[int, bytes, float, memoryview]:
        """For the host of another interpreter in this process; see :meth:`launchers.serve.Lane.hand_over`."""
        return self._lane.hand_over() if self._lane is not None else (-1, b"", 0.0, memoryview(b""))

    def begin(self, max_result: int = 0) -> None:
        """A load or a call is under way: the host listens.

        Args:
            max_result: Bytes that the call's result may have; a question may have as many.
        """
        self._most = max(max_result, MIN_QUESTION)
        self._listens = self._lane is not None

    def end(self) -> None:
        """The call is over; returns when no thread waits for an answer any more."""
        with self._turn:
            self._listens = False

    def ask(self, service: str, *args: Value) -> Value:
        """Ask for a service (docs/host-services.md) and wait for its answer.

        Raises:
            HostRefused: The host does not grant it, cannot do it, or nobody listens; or the question is too
                large, and was not sent.
        """
        with self._turn:
            if not self._listens or self._lane is None:
                raise HostRefused(
                    "unavailable", "the host answers only while the plugin loads or serves a call"
                )
            try:
                head = _HEADS.get(service) or _ASK + pack(service)
                question = head + pack(args, "args", self._lane.bulk)
            except BadValue as error:
                raise HostRefused("invalid", f"{service}: {error.message}") from None
            size = len(question) + (self._lane.bulk.used if self._lane.bulk is not None else 0)
            if size > self._most:
                most = f"{self._most} are allowed (limits.output)"
                raise HostRefused("limit", f"{service}: a question has {size} bytes; {most}")
            raises = interrupt.hold()
            self._lane.send(question)
            # The host is trusted to send [3, value] or [4, reason, message].
            answer = self._lane.receive(answer=True)
            refusal: Any = unpack(answer) if answer[1] == _REFUSAL else None
            value = None if refusal else read(answer, 2, self._lane.bulk)[0]
            interrupt.go_on(raises)
        if refusal:
            raise HostRefused(refusal[1], refusal[2])
        return value
