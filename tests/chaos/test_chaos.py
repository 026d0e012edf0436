"""A busy host program whose plugins, launchers and files are broken at random, for a minute or for hours.

    pytest tests/chaos --chaos-seed 7 --chaos-seconds 600

host.py of this folder is the program, ledger.py has what must hold.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

HOST = Path(__file__).with_name("host.py")
_END_SECONDS = 240
"""For coming back, for the end, and for what is stuck to be found."""


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@pytest.mark.needs_gcc
@pytest.mark.timeout(0)  # the program below has its own end
@pytest.mark.xdist_group("chaos")
def test_nothing_is_lost_or_left_whatever_breaks(request: pytest.FixtureRequest) -> None:
    """Calls end in time, once, by one version; stored values stay; all comes back, and nothing is left."""
    seed = request.config.getoption("--chaos-seed")
    seed = random.randrange(1 << 32) if seed is None else seed
    seconds = request.config.getoption("--chaos-seconds")
    command = [sys.executable, HOST, "--seed", str(seed), "--seconds", str(seconds)]
    again = f"again: pytest tests/chaos --chaos-seed {seed} --chaos-seconds {seconds:g}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + _END_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"the host program does not end ({again})\n{error.stderr}", pytrace=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        pytest.fail(f"the host program failed ({again})\n{done.stderr}", pytrace=False)
    if report["broken"]:
        lines = [
            "what does not hold:",
            *report["broken"],
            "what happened before the first of these:",
            *report["story"],
        ]
        pytest.fail("\n".join([again, *lines, done.stderr]), pytrace=False)
    counts = report["counts"]
    assert done.returncode == 0, done.stderr
    assert counts["answered"] > 100, counts
    assert counts["reloaded"] > 2, counts
    assert counts["events handled"] > 20, counts
