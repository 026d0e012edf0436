"""A call of a kind that was authorised before begins at once; what has changed since is seen all the same."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from supervisors import meeting_place
from support import live
from talk import ALL, Talk, talkers
from versioned import write

from frys_runtime import MessageValue, wire
from frys_runtime.pool import Pool
from frys_runtime.refusals import MAX_DEPTH
from frys_runtime.waits import line

OFFERS = {"exports": {"answer": {"params": [], "returns": "list<string>"}}}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each plugin's call that came so far as to ask for an instance, whether it began at once."""
    told: list[bool] = []
    begin = Pool.begin

    def tell(pool: Pool, *args: Any) -> Any:
        call = begin(pool, *args)
        if line():  # the host program's own calls begin as soon, and nobody waits for them
            told.append(call is not None)
        return call

    monkeypatch.setattr(Pool, "begin", tell)
    return told


async def _twice(talk: Talk, number: MessageValue = 21, who: str = "a") -> MessageValue:
    return await talk.ask("call", "b", "twice", [number], who=who)


async def _answer(talk: Talk) -> MessageValue:
    """The version of the plugin ``sample`` that answers."""
    answer = await talk.ask("call", "sample", "answer", [])
    return answer[0] if isinstance(answer, list) else answer


@live
async def test_the_first_call_is_authorised_and_the_next_begins(tmp_path: Path, begun: list[bool]) -> None:
    """For each plugin that calls, each that is called, and each function."""
    async with talkers(tmp_path, ALL, "a", "b", "c") as talk:
        assert [await _twice(talk) for _ in range(3)] == [42] * 3
        assert begun == [True] * 2
        assert await _twice(talk, who="c") == 42
        assert await talk.ask("call", "c", "twice", [1]) == 2
        assert await talk.ask("call", "b", "where", []) is None
        assert begun == [True] * 2
        assert await talk.ask("call", "b", "where", []) is None
        assert begun == [True] * 3
        channels = talk.manager.communicator.stats().channels
        assert channels["a", "b", "twice"].calls == 3
        assert channels["a", "b", "twice"].bytes_in > 0


@live
async def test_what_one_may_another_may_not(tmp_path: Path, begun: list[bool]) -> None:
    """Nor by another name of the same plugin."""
    policy = ALL + "plugins: {c: {messages: {call: {b: [seen]}}}}"
    async with talkers(tmp_path, policy, "a", "b", "c") as talk:
        for _ in range(3):
            assert await _twice(talk) == 42
            refusal = await _twice(talk, who="c")
            assert refusal[0] == "permission"  # type: ignore[index]
            refusal = await talk.ask("call", "b@1", "twice", [1], who="c")
            assert refusal[0] == "permission"  # type: ignore[index]
        assert begun == [True] * 2
        assert talk.manager.communicator.stats().refused["c"] == 6


@live
async def test_other_types_than_the_usual_ones_are_looked_at(tmp_path: Path, begun: list[bool]) -> None:
    """However often a call with the usual ones was made; they are refused, and counted."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        for args in ([True], [1.0], ["x"], [None], [], [1, 2]):
            assert await _twice(talk) == 42
            refusal = await talk.ask("call", "b", "twice", args)  # type: ignore[arg-type]
            assert refusal[0] == "invalid"  # type: ignore[index]
        assert begun == [True] * 5
        assert talk.manager.communicator.stats().channels["a", "b", "twice"].refused == 6
        for _ in range(2):  # of a type that has several in Python
            assert await talk.ask("call", "b", "sleep", [0]) is None
            assert await talk.ask("call", "b", "move", [{"x": 1, "y": 2}]) == {"x": 2, "y": 2}
            refusal = await talk.ask("call", "b", "lie", [])
            assert refusal == ["invalid", "the result of b.lie must be int, not string"]
        assert begun == [True] * 6  # the second lie


@live
async def test_whoever_listens_sees_the_known_way_too(tmp_path: Path, begun: list[bool]) -> None:
    """From the first call on that is made while he does."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        assert [await _twice(talk) for _ in range(2)] == [42] * 2
        stream = talk.manager.communicator.traffic()
        assert await _twice(talk) == 42
        record = await anext(stream)
        assert (record.sender, record.receiver, record.name, record.result) == ("a", "b", "twice", "int")
        del stream
        assert begun == [True]
        assert await _twice(talk) == 42
        assert begun == [True] * 2


@live
async def test_a_circle_is_seen_on_the_known_way(tmp_path: Path, begun: list[bool]) -> None:
    """Both calls were made before, one at a time."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:

        @talk.manager.host_function("slow_twice")
        async def twice(who: str) -> MessageValue:
            return await talk.ask("call", "a", "twice", [1], who=who)

        for _ in range(2):
            assert await _twice(talk) == 42
            assert await talk.ask("call", "a", "twice", [1], who="b") == 2
        assert begun == [True] * 2
        refusal = await talk.ask("host", "slow_twice", ["b"])
        assert refusal == ["cycle", "it would wait for itself: b > a > b"]
        assert begun == [True] * 3  # the host function's call of b, for which a waits
        assert talk.manager.communicator.stats().channels["b", "a", "twice"].calls == 2


@live
async def test_a_call_of_a_busy_plugin_waits_for_its_turn(tmp_path: Path, begun: list[bool]) -> None:
    """And one of a plugin that is suspended until that is resumed."""
    async with talkers(tmp_path, ALL, "a", "b", "c") as talk:
        assert [await _twice(talk) for _ in range(2)] == [42] * 2
        sleep = asyncio.create_task(talk.manager.execute_plugin("b", "sleep", 0.3))
        await asyncio.sleep(0.1)
        assert await _twice(talk) == 42
        await sleep
        await talk.manager.plugin("b").suspend()
        call = asyncio.create_task(_twice(talk))
        await asyncio.sleep(0.1)
        assert not call.done()
        await talk.manager.plugin("b").resume()
        assert await call == 42
        assert begun == [True, False, False]


@live
async def test_a_line_of_known_calls_has_an_end(tmp_path: Path, begun: list[bool]) -> None:
    """The last call of a line that is too long is refused, though it was made before in a shorter one."""
    code = "import frys\ndef down(n):\n    return frys.call(f'p{n}', 'down', n + 1) if n < LAST else 'end'\n"
    exports = {"down": {"params": ["int"], "returns": "string"}}
    async with talkers(tmp_path, ALL, "a") as talk:
        for number in range(MAX_DEPTH + 2):
            text = code.replace("LAST", str(MAX_DEPTH + 2))
            await talk.manager.load_plugin(
                write(tmp_path / f"p{number}", "1.0.0", text, id=f"p{number}", exports=exports)
            )
        for _ in range(2):
            assert await talk.manager.execute_plugin("p1", "down", 2) == "end"
        assert begun.count(True) == MAX_DEPTH
        refusal = await talk.ask("call", "p0", "down", [1])
        assert f"{MAX_DEPTH} plugins wait for one another already" in str(refusal)


@live
async def test_another_version_serves_from_the_next_call_on(tmp_path: Path, begun: list[bool]) -> None:
    """After a reload, a load beside it, a pin, a trial, its end, and when the plugin was away."""
    one, two = (write(tmp_path / version, f"{version}.0.0", **OFFERS) for version in "12")
    async with talkers(tmp_path, ALL, "a") as talk:
        manager = talk.manager
        await manager.load_plugin(one)
        assert [await _answer(talk) for _ in range(3)] == ["1.0.0"] * 3
        write(one, "1.0.1", **OFFERS)
        await manager.reload_plugin("sample")
        assert [await _answer(talk) for _ in range(3)] == ["1.0.1"] * 3
        await manager.load_plugin(two, side_by_side=True)
        assert [await _answer(talk) for _ in range(3)] == ["2.0.0"] * 3
        manager.pin("sample", "1")
        assert [await _answer(talk) for _ in range(3)] == ["1.0.1"] * 3
        manager.pin("sample", None)
        await manager.unload_plugin("sample@2")
        assert [await _answer(talk) for _ in range(3)] == ["1.0.1"] * 3
        assert begun == [True] * 10
        await manager.canary("sample", two, weight=0.5, promote_after=None)
        assert [await _answer(talk) for _ in range(4)] == ["1.0.1", "2.0.0"] * 2
        assert begun == [True] * 10
        await manager.promote("sample")
        assert [await _answer(talk) for _ in range(3)] == ["2.0.0"] * 3
        await manager.unload_plugin("sample")
        refusal = await talk.ask("call", "sample", "answer", [])
        assert refusal[0] == "missing"  # type: ignore[index]
        await manager.load_plugin(one)
        assert [await _answer(talk) for _ in range(3)] == ["1.0.1"] * 3


@live
async def test_a_function_that_is_not_offered_any_more_is_missing(tmp_path: Path, begun: list[bool]) -> None:
    """Or has other types: those of the version that gets the call count."""
    plugin = write(tmp_path / "plugin", "1.0.0", **OFFERS)
    async with talkers(tmp_path, ALL, "a") as talk:
        await talk.manager.load_plugin(plugin)
        assert [await _answer(talk) for _ in range(2)] == ["1.0.0"] * 2
        takes = {"exports": {"answer": {"params": ["int"], "returns": "list<string>"}}}
        for version, offers, reason in (("1.0.1", {}, "missing"), ("1.0.2", takes, "invalid")):
            write(plugin, version, **offers)
            await talk.manager.reload_plugin("sample")
            for _ in range(2):
                refusal = await talk.ask("call", "sample", "answer", [])
                assert refusal[0] == reason  # type: ignore[index]
        assert await talk.ask("call", "sample", "answer", [1]) == ["1.0.2"] * 8
        assert begun == [True] * 2


@live
async def test_a_call_that_cannot_be_sent_gives_its_instance_back(
    tmp_path: Path, begun: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    """The host has no memory for it at that moment; the caller is told, and the only instance serves on."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        assert [await _twice(talk) for _ in range(2)] == [42] * 2
        encode, left = wire.encode_call, [1, 0]

        def no_memory(*args: Any) -> tuple[bytes, ...]:
            if not left.pop():  # the first is the call of `a`
                return encode(*args)
            raise MemoryError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire, "encode_call", no_memory)
            assert (await _twice(talk))[0] == "failed"  # type: ignore[index]
        assert await _twice(talk) == 42
        assert begun == [True] * 2
        assert talk.manager.plugin("b").resource_usage().restarts == 0
    assert "asked for call, which failed in the host" in caplog.text


@live
async def test_a_function_that_may_be_called_twice_is_on_the_known_way(
    tmp_path: Path, begun: list[bool]
) -> None:
    """Its process dies, another one answers, and the caller gets one answer."""
    code = "import os, frys\ndef answer(value):\n    return value if frys.host('slow_live') else os.abort()\n"
    exports = {"answer": {"params": ["int"], "returns": "int", "idempotent": True}}
    async with talkers(tmp_path, ALL, "a") as talk:
        lives = [True, False, True, True]
        talk.manager.host_function("slow_live")(lambda: lives.pop(0))
        await talk.manager.load_plugin(write(tmp_path / "plugin", "1.0.0", code, exports=exports))
        calls = [["call", "sample", "answer", [number]] for number in range(3)]
        answers = [await talk.ask(*call) for call in calls]  # type: ignore[arg-type]
        assert answers == [0, 1, 2]
        assert begun == [True] * 2
        assert talk.manager.resource_usage("sample").restarts == 1
        stats = talk.manager.communicator.stats().channels["a", "sample", "answer"]
        assert (stats.calls, stats.errors) == (3, 0)


@live
async def test_a_call_goes_no_known_way_while_other_supervisors_take_part(
    tmp_path: Path, begun: list[bool]
) -> None:
    """Who waits for whom is asked of all of them first."""
    with meeting_place() as place:
        async with talkers(tmp_path, ALL, "a", "b", bus=place / "bus") as talk:
            assert [await _twice(talk) for _ in range(3)] == [42] * 3
            assert begun == []


@live
async def test_values_of_every_size_come_over_the_known_way_as_they_are(tmp_path: Path) -> None:
    """And of every type that has one type in Python."""
    exports = {
        name: {"params": [kind], "returns": kind}
        for name, kind in (("text", "string"), ("data", "bytes"), ("number", "int"), ("flag", "bool"))
    }
    code = "def text(value):\n    return value\ndata = number = flag = text\n"
    plugin = write(tmp_path / "plugin", "1.0.0", code, exports=exports)
    async with talkers(tmp_path, ALL, "a") as talk:
        await talk.manager.load_plugin(plugin)
        values: list[tuple[str, list[MessageValue]]] = [
            ("text", ["", "x", "ü" * 31, "x" * 70_000]),
            ("data", [b"", b"x" * 255, bytes(8191), bytes(8192), bytes(1 << 20)]),
            ("number", [0, 127, 128, -1, -(1 << 63), (1 << 64) - 1]),
            ("flag", [True, False]),
        ]
        for function, every in values:
            for value in every * 2:
                assert await talk.ask("call", "sample", function, [value]) == value
