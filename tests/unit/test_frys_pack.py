"""The MessagePack of frys_pack.h, under sanitizers: it writes what it read, and stays within its bytes."""

import random
import struct
import subprocess
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.needs_gcc
def test_values_come_back_and_broken_frames_harm_nothing(tmp_path: Path) -> None:
    """Every kind and width of value, each frame cut anywhere, and thousands with bytes changed."""
    values = [
        *(None, True, False, 0, -1, 127, 128, -32, -33, 255, 256, -128, -129, 65535, 65536, -32768, -32769),
        *(
            2**31,
            -(2**31) - 1,
            2**32,
            2**63 - 1,
            -(2**63),
            1.5,
            float("inf"),
            "",
            "é" * 20,
            "x" * 300,
            "y" * 70_000,
        ),
        *(b"", b"\0" * 300, b"z" * 70_000, [], [1, [2, [3]]], list(range(70_000)), {}, {"a": {"b": [None]}}),
        {str(number): number for number in range(20)},
    ]
    packed = [msgspec.msgpack.encode(value) for value in values]
    small = [frame for frame in packed if len(frame) < 400]
    chance = random.Random(7)
    broken = [frame[:cut] for frame in small for cut in range(len(frame))]
    for _ in range(20_000):
        frame = bytearray(chance.choice(small) + chance.randbytes(chance.randrange(4)))
        for _ in range(chance.randrange(1, 4)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        broken.append(bytes(frame))
    # Bytes as they stand behind no width: more than 64 bits, and what MessagePack does not use.
    broken += [msgspec.msgpack.encode(2**64 - 1), b"\xc1", b"\xd4\0\0", b"\xdd\xff\xff\xff\xff", b"\x91" * 64]
    program = tmp_path / "echo"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=address,undefined"]
    include = ROOT / "launchers" / "include"
    source = ROOT / "fixtures" / "native" / "pack_echo.c"
    command = ["gcc", *flags, "-fno-sanitize-recover=all", f"-I{include}", source, "-o", program]
    subprocess.run(command, check=True)
    frames = packed + broken
    sent = b"".join(struct.pack("=I", len(frame)) + frame for frame in frames)
    done = subprocess.run([program], input=sent, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    answers, at = [], 0
    while at < len(done.stdout):
        (size,) = struct.unpack_from("=I", done.stdout, at)
        answers.append(done.stdout[at + 4 : at + 4 + size])
        at += 4 + size
    assert len(answers) == len(frames)
    assert [msgspec.msgpack.decode(answer) for answer in answers[: len(values)]] == values
    assert answers[-5:] == [b""] * 5
