"""Counting and showing messages: times in buckets, channels in bounded memory, shapes without contents."""

import asyncio
import time

import pytest
from hypothesis import given, strategies as st

from frys_runtime import channels
from frys_runtime.channels import Channels, Histogram
from frys_runtime.interfaces import Types
from frys_runtime.messages import Refused
from frys_runtime.shapes import shape
from frys_runtime.traffic import Traffic, error_kind

SECRET = "hunter2"
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 9)
    | st.floats(0, 9)
    | st.just(SECRET)
    | st.just(SECRET.encode()),
    lambda inner: (
        st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from(("a b", "ü", SECRET + "!")), inner)
    ),
    max_leaves=30,
)


@given(st.floats(0, 500))
def test_a_time_falls_into_the_bucket_that_holds_it(seconds: float) -> None:
    """Bounds grow without a gap, a bucket is at most a quarter wider than it begins, and the last is open."""
    histogram = Histogram()
    histogram.add(seconds)
    bucket = list(histogram.counts).index(1)
    micros = int(seconds * 1_000_000) / 1_000_000
    assert Histogram.bound(bucket) <= micros
    if bucket < len(histogram.counts) - 1:
        assert micros < Histogram.bound(bucket + 1)
        assert Histogram.bound(bucket + 1) <= Histogram.bound(bucket) * 1.25 + 1e-6


def test_quantiles_come_out_of_the_buckets() -> None:
    """Median and 99th percentile of known times, to a quarter; nothing counted is 0."""
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0
    for number in range(1, 1001):
        histogram.add(number / 1000)
    assert histogram.quantile(0.5) == pytest.approx(0.5, rel=0.25)
    assert histogram.quantile(0.99) == pytest.approx(0.99, rel=0.25)
    twice = histogram.copy()
    twice.merge(histogram)
    assert sum(twice.counts) == 2000
    assert sum(histogram.counts) == 1000


def test_channels_are_bounded_and_lose_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room, those of plugins that are gone are added up; the rest goes to the others."""
    monkeypatch.setattr(channels, "MAX_CHANNELS", 10)
    loaded = {"a", "b"}
    counts = Channels(loaded.__contains__)
    for number in range(10):
        counts.at(("a" if number % 2 else "b", "", f"f{number}")).calls += 1
    counts.at(("a", "", "more")).calls += 1
    assert len(counts.snapshot()) == 10
    loaded.discard("a")
    counts.left()
    counts.at(("b", "", "even more")).calls += 1
    there = counts.snapshot()
    assert {channel[0] for channel in there} == {"b"}
    assert sum(one.calls for one in there.values()) + counts.other().calls == 12


@given(values)
def test_a_shape_never_has_contents(value: object) -> None:
    """Neither a string, nor bytes, nor a key that is no field's name, is shown."""
    text = shape(value)  # type: ignore[arg-type]
    assert SECRET not in text
    assert SECRET.encode().hex() not in text
    assert len(text) <= 503


@pytest.mark.parametrize(
    ("value", "declared", "text"),
    [
        (
            {"name": "twelve chars", "items": [1, 2, 3]},
            "any",
            '{"name": string(12), "items": list(3) of int}',
        ),
        ({"ann@example.org": 1, "bob@example.org": 2}, "any", "map(2) of int"),
        ({"ann": 1, "bob": 2}, "map<int>", "map(2) of int"),
        ({"x": 1.5, "name": None}, "Point", '{"x": float, "name": null}'),
        ({"x": 1.5, "password": "s"}, "Point", '{"x": float, ...}'),
        (["a", "bb", None], "list<string?>", "list(3) of string|null"),
        (["aa", "bb"], "list<string>", "list(2) of string(2)"),
        ([], "any", "list(0)"),
        ("red", "Colour", "Colour"),
        (b"1234", "bytes?", "bytes(4)"),
        (True, "any", "bool"),
    ],
)
def test_shapes_follow_the_declared_type(value: object, declared: str, text: str) -> None:
    """A record's declared fields are named, a map's keys are not."""
    types = Types({"Point": {"x": "float", "name": "string?"}, "Colour": ["red"]}, "plugin.json")
    assert shape(value, types.parse(declared, "here")) == text  # type: ignore[arg-type]


def test_a_huge_value_is_looked_at_a_little() -> None:
    """However many items of however many kinds, however deep: few are looked at, and the text is short."""
    row: list[object] = [{f"k{n}": n for n in range(16)} for _ in range(1000)]
    began = time.process_time()
    for _ in range(20):
        assert len(shape([row] * 1000)) <= 503  # type: ignore[list-item]
        assert shape([[[[[[1]]]]]]) == "list(1) of list(1) of list(1) of list(1) of list(1) of ..."
    assert time.process_time() - began < 5


def test_nothing_is_made_while_nobody_listens() -> None:
    """A listener that is forgotten is gone at once, and a message then makes no record."""

    async def listen_and_forget() -> None:
        traffic = Traffic(lambda _: True)
        stream = traffic.listen(2)
        for name in ("one", "two", "three"):
            with traffic.passage("call", ("", "b", name), ([1],)) as passage:
                passage.value = "x"
        assert stream.dropped == 1
        record = await anext(stream)
        assert (record.name, record.arguments, record.result) == ("two", ("list(1) of int",), "string(1)")
        del stream
        assert not traffic.listeners
        assert traffic.calls.snapshot()["", "b", "three"].calls == 1

    asyncio.run(listen_and_forget())


def test_every_failure_has_one_word() -> None:
    """From a small set, so that plugins cannot make counters grow."""
    assert error_kind(Refused("cycle", "x")) == "cycle"
    assert error_kind(TypeError("x")) == "TypeError"
    assert error_kind(asyncio.CancelledError()) == "cancelled"
    assert error_kind(KeyError("x")) == "failed"
