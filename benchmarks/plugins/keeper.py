"""The plugin that does a little of everything: it stores, tells, and calls another one."""

import frys


def work(number: int) -> int:
    frys.kv.set(f"key{number % 100}", number)
    frys.emit("done", number)
    assert frys.call("javascript", "echo", b"%d" % number) == b"%d" % number
    return number


def on_done(number: int) -> None:
    frys.kv.set("heard", number)
