"""``python -m benchmarks [--quick] [--only NAME]... [--json FILE] [--svg FILE]``."""

import argparse
import sys
from pathlib import Path

from .run import BENCHMARKS, RESULTS, measure


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions: shows that it works, says little"
    )
    parser.add_argument("--only", action="append", choices=BENCHMARKS, default=[], help="may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="where the figures go")
    parser.add_argument("--svg", type=Path, default=RESULTS / "latest.svg", help="where the picture goes")
    words = parser.parse_args()
    try:
        measure(words.only, words.json, words.svg, quick=words.quick)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
