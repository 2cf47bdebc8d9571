"""`python -m tests.chaos`: see scripts/chaos."""

from __future__ import annotations

import argparse
import sys

from tests.chaos import chaos


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Jobs are killed at random moments, behind a proxy that breaks their bucket, until they are done; "
        "the result of each must be that of the job left alone.",
    )
    parser.add_argument("--kills", type=int, default=200, help="signals (200)")
    parser.add_argument("--replicas", type=int, default=1, help="virtual devices (1)")
    parser.add_argument("--workers", type=int, default=1, help="processes that train together, any of them killed (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the faults (0)")
    parser.add_argument("--minutes", type=float, default=45.0, help="after which no more signals are sent (45)")
    parser.add_argument("--quiet", action="store_true", help="print the table alone")
    given = parser.parse_args()
    outcome = chaos.run(
        kills=given.kills,
        replicas=given.replicas,
        workers=given.workers,
        seed=given.seed,
        max_s=60 * given.minutes,
        say=(lambda line: None) if given.quiet else lambda line: print(line, flush=True),
    )
    print(outcome.table())
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
