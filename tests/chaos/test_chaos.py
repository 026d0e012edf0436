"""A busy host program whose plugins, launchers and files are broken at random, for a minute or for hours.

    pytest tests/chaos --chaos-seed 7 --chaos-seconds 600

host.py of this folder is the program, ledger.py has what must hold.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos.ledger import Ledger
from chaos.plugins import KINDS, Shelf
from chaos.workload import Workload
from support import leftovers, live

from frys_runtime import PluginManager

HOST = Path(__file__).with_name("host.py")
_END_SECONDS = 240
"""For coming back, for the end, and for what is stuck to be found."""


pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
    pytest.mark.needs_gcc,
]


@pytest.mark.timeout(0)  # the program below has its own end
@pytest.mark.xdist_group("chaos")
def test_nothing_is_lost_or_left_whatever_breaks(request: pytest.FixtureRequest) -> None:
    """Calls end in time, once, by one version; stored values stay; all comes back, and nothing is left."""
    seed = _seed(request)
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


def _seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--chaos-seed"))


def test_a_host_that_is_killed_in_the_middle_finds_all_again(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Nothing of it is left, whatever stood still; the next one has its plugins and every stored value."""
    seed = _seed(request)
    command = [sys.executable, HOST, "--seed", str(seed), "--until-killed", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        while (tmp_path / "journal").read_text().count("acknowledged") < 5:
            time.sleep(0.05)
        time.sleep(random.Random(seed).uniform(0, 2))
        host.kill()
    assert leftovers(host.pid) == [], f"seed {seed}"
    _look_again(tmp_path, seed)


@live
async def _look_again(folder: Path, seed: int) -> None:
    ledger, shelves = Ledger(), {kind: Shelf(folder / "plugins", kind) for kind in KINDS}
    ledger.read(folder / "journal")
    policy, state = folder / "policy.yaml", folder / "state"
    async with PluginManager(policy=policy, state_dir=state, restore=True, spares=0) as manager:
        known = {info.id for info in manager.list_plugins()} | manager.unrestored.keys()
        assert known >= KINDS.keys() - {"guest"}, f"seed {seed}"
        work = Workload(manager, random.Random(seed), ledger, shelves, 1)
        await work.all_answer()
        await work.check_stored()
    assert ledger.broken == [], f"seed {seed}"
