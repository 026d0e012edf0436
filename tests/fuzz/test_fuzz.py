"""A million malformed frames: the decoder refuses them, does not crash, and does not grow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MALFORMED = 1_000_000
RUNS = 1_400_000
"""About a quarter of what the fuzzer comes upon is a frame."""
_GROWTH = 16 << 20
"""The fuzzer itself keeps what reaches new code; a decoder that leaked 20 bytes a frame would show."""


@pytest.mark.needs_atheris
@pytest.mark.timeout(600)
def test_a_million_frames(tmp_path: Path) -> None:
    """From the kept corpus on, guided by coverage; one that is accepted holds plain values only."""
    # Whoever starts a process leaves it the most memory that he has ever had (getrusage(2)), which libFuzzer
    # takes for its own; the growth is looked at below.
    options = [f"-runs={RUNS}", "-max_len=64", "-seed=1", "-rss_limit_mb=0"]
    command = [sys.executable, HERE / "fuzz_wire.py", *options]
    done = subprocess.run(
        [*map(str, command), str(tmp_path), str(HERE / "corpus" / "wire")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    *_, last = re.findall(r"runs=(\d+) refused=(\d+) settled=(\d+) resident=(\d+)", done.stdout)
    runs, refused, settled, resident = map(int, last)
    assert runs >= RUNS
    assert refused >= MALFORMED
    assert resident - settled < _GROWTH
