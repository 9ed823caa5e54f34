"""Runs simulations, and writes their shares to docs/calibration.md.

    python -m calibration
    python -m calibration means audits
    python -m calibration --render

The seeds are fixed, so the same version of the code and its libraries gives the same page. Exit codes: 0 if each share
keeps its promise, 1 if one does not, 2 for a usage error.
"""

import argparse
import sys
import textwrap

from calibration import page
from calibration.subjects import SUBJECTS, simulations
from plumbline import UserError, unknown_name
from plumbline.files import write_text


def main(arguments: list[str]) -> int:
    """Runs the simulations of some subjects; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration",
        description=textwrap.dedent(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument("--render", action="store_true", help="write the page from the stored results, draw nothing")
    parser.add_argument("--only-new", action="store_true", help="leave out simulations that have a stored result")
    options = parser.parse_args(arguments)
    outcomes, kept = page.load(), True
    try:
        for name in options.names:
            if name not in SUBJECTS:
                raise unknown_name("NAME", name, SUBJECTS)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in () if options.render else options.names or SUBJECTS:
        for each in simulations(name):
            if options.only_new and each.key in outcomes:
                continue
            outcomes[each.key] = outcome = each.run(each.draws)
            kept &= each.keeps(outcome)
            share, low, high = outcome.interval()
            verdict = "" if each.keeps(outcome) else f"  NOT KEPT: promised {each.promised:g}"
            print(f"{each.key}  {share:.3f} ({low:.3f} to {high:.3f}) of {outcome.claimed}{verdict}", flush=True)
            page.store(name, outcomes)
    write_text(page.PAGE, page.render(outcomes))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
