"""A million malformed inputs for each decoder: it refuses them, does not crash, and does not grow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MALFORMED = 1_000_000
_GROWTH = 16 << 20
"""The fuzzer itself keeps what reaches new code; a decoder that leaked 20 bytes a frame would show."""


@pytest.mark.needs_atheris
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("fuzzer", "corpus", "runs", "longest"),
    [("fuzz_wire.py", "wire", 1_400_000, 64), ("fuzz_frames.py", "frames", 1_200_000, 192)],
    ids=["frames of a plugin", "messages of the bus"],
)
def test_a_million_inputs(fuzzer: str, corpus: str, runs: int, longest: int, tmp_path: Path) -> None:
    """From the kept corpus on, guided by coverage; one that is accepted holds plain values only.

    Args:
        fuzzer: What reads them.
        corpus: Where it begins.
        runs: So many that a million of them are malformed; it reports each hundred thousand.
        longest: Bytes of an input.
        tmp_path: Where it keeps what it finds.
    """
    # Whoever starts a process leaves it the most memory that he has ever had (getrusage(2)), which libFuzzer
    # takes for its own; the growth is looked at below.
    options = [f"-runs={runs}", f"-max_len={longest}", "-seed=1", "-rss_limit_mb=0"]
    command = [sys.executable, HERE / fuzzer, *options]
    done = subprocess.run(
        [*map(str, command), str(tmp_path), str(HERE / "corpus" / corpus)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    *_, last = re.findall(r"runs=(\d+) refused=(\d+) settled=(\d+) resident=(\d+)", done.stdout)
    fed, refused, settled, resident = map(int, last)
    assert fed >= runs
    assert refused >= MALFORMED
    assert resident - settled < _GROWTH
