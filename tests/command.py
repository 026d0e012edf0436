"""Run `frys` as a person would, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

FRYS = [sys.executable, "-c", "from frys_runtime.cli import main; main()"]


def frys(
    *words: str | Path,
    stdin: bytes = b"",
    columns: int = 80,
    cwd: Path | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with its output in pipes."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FRYS_")}
    return subprocess.run(
        [*FRYS, *map(str, words)],
        input=stdin,
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**variables, "COLUMNS": str(columns), **environment},
    )
