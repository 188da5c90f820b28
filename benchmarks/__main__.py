"""Run all the benchmarks, one process each: `python -m benchmarks [--small]`."""

from __future__ import annotations

import argparse
import subprocess
import sys

ALL = (
    "stages",
    "wire",
    "identity",
    "actives",
    "numbers",
    "backfill",
    "pages",
    "pixel",
    "growth",
    "freshness",
    "anomalies",
)


def main() -> int:
    """Run those asked for; the status is 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few minutes, to see that everything runs")
    parser.add_argument("only", nargs="*", help=f"some of {', '.join(ALL)}; without, all of them")
    options = parser.parse_args()
    if unknown := set(options.only) - set(ALL):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    failed = []
    for name in options.only or ALL:
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--small"] if options.small else [])]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
