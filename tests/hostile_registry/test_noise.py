"""Noise on every answer: whatever arrives, the right bytes are installed or a RegistryError says why not."""

import asyncio
import dataclasses
import os
import random

from frys_runtime import RegistryError

_ROUNDS = int(os.environ.get("FRYS_NOISE_ROUNDS", "6"))


def spoiled(data, chance):
    """The same bytes with something wrong in them."""
    at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    return chance.choice([
        data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
        data[:at] + data[end:],
        data[:end] + data[at:end] + data[end:],
        data[:at] + chance.randbytes(chance.randrange(64)) + data[at:],
        data[:at] + chance.choice([b"9" * 20, b"[" * 2000, b'"\\ud800"', b"null,", b"-", b"\0"]) + data[at:],
        data[end:] + data[:end],
        data.swapcase(),
        b"",
    ])  # fmt: skip


def noise(chance):
    """A lie about one answer in four: its body, its status, its length, or its order of bytes."""

    def told(reply, asked):
        if chance.random() < 0.75:
            return reply
        kind = chance.randrange(6)
        if kind == 0:
            return dataclasses.replace(reply, status=chance.choice([100, 204, 206, 301, 304, 404, 416, 500]))
        if kind == 1:
            return dataclasses.replace(reply, cut=chance.randrange(len(reply.body) + 1))
        if kind == 2:
            head = dataclasses.replace(reply, length=len(reply.body)).head()
            return dataclasses.replace(reply, raw=spoiled(head, chance))
        return dataclasses.replace(reply, body=spoiled(reply.body, chance))

    return told


def attempt(victim, wanted):
    """Search and install; which attack it looked like, if it did not go well."""
    try:
        asyncio.run(victim.registry.search_plugins(wanted[-4:]))
        asyncio.run(victim.market.install(wanted))
    except RegistryError as error:
        return error
    return None


def test_noise(victim_of, proxy, prey, packed):
    """One answer in four is spoiled at random, in each of many installs; then an honest one goes well."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown when it fails
    chance, refused = random.Random(seed), []
    for number in range(_ROUNDS):
        victim = victim_of(proxy.url, f"victim-{number}", mirrors=[f"{proxy.url}/"] * (number % 2))
        wanted = f"oci://{proxy.url[7:]}/{prey}:1.0.0" if number % 3 == 0 else prey
        proxy.tell("", noise(chance))
        for error in [attempt(victim, wanted) for _ in range(3)]:
            if error is None:
                assert victim.market.path(prey).read_bytes() == packed
            else:
                assert str(error).isprintable()
                refused.append(error)
        proxy.honest()
        assert victim.install(wanted) == {prey: "1.0.0"}
        assert victim.market.path(prey).read_bytes() == packed
    assert refused
