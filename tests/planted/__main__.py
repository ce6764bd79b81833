"""`make planted`: bugs are planted one by one, and the test that is named for each must fail.

    python -m tests.planted [WORDS] [--again]

Each bug is planted in a copy of the tree, where its unit test alone is run: seconds each. Outcomes
are kept in build/planted.json, and one whose bug, file and test are as they were is not tried anew,
so that the same command goes on where it was ended. The table is printed and stands in
tests/planted/table.md. Exit code 1 where a bug was not caught. WORDS picks bugs by what they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from oapl.whole_files import written_aside
from tests.planted import planting
from tests.planted.bugs import BUGS, Bug
from tests.planted.planting import CAUGHT, Outcome

KEPT = Path("build/planted.json")
TABLE = Path(__file__).with_name("table.md")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*", help="only bugs in whose words all of these stand")
    parser.add_argument("--again", action="store_true", help="try those that are known, too")
    options = parser.parse_args()
    bugs = [bug for bug in BUGS if all(word in f"{bug.what} {bug.file}" for word in options.words)]
    known = {} if options.again else kept()
    left = [bug for bug in bugs if planting.digest(bug) not in known]
    if left:
        known = try_out(left, known)
    outcomes = [known[planting.digest(bug)] for bug in bugs]
    print(table(outcomes))
    if len(bugs) == len(BUGS):
        TABLE.write_text(table(outcomes) + "\n")
    return int(any(outcome.outcome != CAUGHT for outcome in outcomes))


def try_out(bugs: list[Bug], known: dict[str, Outcome]) -> dict[str, Outcome]:
    """Plant them in turn, and keep each outcome as it comes."""
    with tempfile.TemporaryDirectory(prefix="oapl-planted-") as folder:
        place = Path(folder)
        planting.copy(place)
        if broken := planting.failing(bugs, place):
            sys.exit(f"these fail without a bug: {', '.join(broken)}")
        for number, bug in enumerate(bugs, 1):
            outcome = planting.attempt(bug, place)
            known = {**known, outcome.digest: outcome}
            keep(known)
            print(
                f"{number}/{len(bugs)} {outcome.outcome}: {bug.what} ({outcome.seconds} s)",
                flush=True,
            )
    return known


def kept() -> dict[str, Outcome]:
    """Outcomes of earlier calls, by digest."""
    if not KEPT.is_file():
        return {}
    found = [Outcome(**values) for values in json.loads(KEPT.read_text())]
    return {outcome.digest: outcome for outcome in found if outcome.outcome == CAUGHT}


def keep(known: dict[str, Outcome]) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    with written_aside(KEPT) as part:
        part.write_text(json.dumps([outcome.to_json() for outcome in known.values()], indent=1))


def table(outcomes: list[Outcome]) -> str:
    """A row per bug, in Markdown."""
    caught = sum(outcome.outcome == CAUGHT for outcome in outcomes)
    rows = [f"{caught} of {len(outcomes)} planted bugs were caught.", ""]
    rows += ["| bug | file | | by the test |", "|---|---|---|---|"]
    for one in outcomes:
        test = one.test.removeprefix("tests/unit/").replace("::", " ")
        rows.append(f"| {one.what} | `{one.file}` | {one.outcome} | `{test}` |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
