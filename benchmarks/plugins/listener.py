"""One of many that get an event; it tells the host program at once that it has it."""

import frys


def on_tick(data: bytes) -> None:
    frys.host("heard")
