"""``python -m benchmarks [--quick] [--only NAME,...]... [--json FILE] [--svg FILE]``."""

import argparse
import sys
from pathlib import Path

from .run import BENCHMARKS, RESULTS, chosen, measure


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions: shows that it works, says little"
    )
    names = f"{', '.join(BENCHMARKS)}; several with commas between, or one by one"
    parser.add_argument("--only", action="append", metavar="NAME,...", default=[], help=names)
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="where the figures go")
    parser.add_argument("--svg", type=Path, default=RESULTS / "latest.svg", help="where the picture goes")
    words = parser.parse_args()
    try:
        only = chosen(words.only)
    except ValueError as error:
        parser.error(str(error))
    try:
        measure(only, words.json, words.svg, quick=words.quick)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
