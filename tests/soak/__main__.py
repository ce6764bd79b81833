"""`make soak`: one live run with two engines, to which faults are done at random for half an hour.

    python -m tests.soak --minutes 30 --seed 3
    python -m tests.soak --report              what there is of the last one

The faults are those of `make chaos`; one engine stays alive. At the end, however it comes (Ctrl-C
and SIGTERM too), the run is stopped, its draws and steps must balance, and no process may have
grown beyond a bound. Exit code 1 where something is wrong. What is found is in build/soak; what was
measured until a kill is there as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType

from oapl.tracking import history, restarts
from tests.chaos import results
from tests.chaos.__main__ import PATIENCE_S, prepare
from tests.chaos.chain import Chain
from tests.chaos.endings import GROUPS_PER_STEP, ROLLOUTS_PER_GROUP
from tests.chaos.plans import live
from tests.chaos.records import Plan, Row
from tests.soak import balance, report, sampling, slopes
from tests.soak.schedule import Schedule

RESULTS = Path("build/soak")
SAMPLES, ROWS, RUN = "samples.jsonl", "rows", "run.json"
LAST_S = 180.0
"""Of the time, in which no new fault is made: the last one may take the run back."""
LEFT_S = 120.0
"""For what the run has started to be gone after it."""
PLAN = Plan(
    name="soak",
    first_step=9,
    settings=(*live.PLAN.settings, "rollout.num_engines=2"),
    cases=live.PLAN.cases,
)


class Ended(Exception):
    """Somebody asks the soak to end now."""


def main() -> int:
    options = _parse()
    if options.report:
        found = read(options.results)
    else:
        found = soak(options.results, options.minutes, options.seed)
    report.write(found, options.results)
    print(found.text())
    return int(bool(found.wrong()))


def soak(folder: Path, minutes: float, seed: int) -> report.Found:
    """Do it.

    Args:
        folder: Of what is found; emptied first.
        minutes: Until no new fault is made, and the time for the last one.
        seed: Of the schedule, and of the moments at which faults strike.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oapl-soak-") as work:
        prepare(Path(work))
        chain = Chain(PLAN, Path(work), seed)
        sampler = sampling.Sampler(chain, folder / SAMPLES)
        troubles = []
        try:
            _strike(chain, folder, Schedule(PLAN.cases, seed), began + 60 * minutes)
        except Ended:
            print("asked to end: stopping the run", flush=True)
        except AssertionError as error:
            troubles.append(f"the run did not go on: {error}"[:3000])
        finally:
            sampler.close()
        try:
            troubles += _ended(chain)
            _note(chain, folder, seed, (time.monotonic() - began) / 60)
        finally:
            chain.kill()
        return read(folder, chain, troubles)


def _strike(chain: Chain, folder: Path, schedule: Schedule, deadline: float) -> None:
    """Fault after fault, until the time is nearly over.

    Raises:
        Ended: A signal asks for it.
    """
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, _end)
    chain.alive()
    for place in itertools.count(1):
        due = schedule.next(len(chain.workers()))
        if time.monotonic() + due.pause_s > deadline - LAST_S:
            break
        time.sleep(due.pause_s)
        print(f"{due.case.name} ...", flush=True)
        row = chain.try_case(due.case, place)
        results.write(replace(row, name=f"{place:03d}-{row.name}"), folder / ROWS)
        print(f"  {row.outcome}{row.why and ': ' + row.why[-1500:]}", flush=True)
        if row.outcome == "failed" and not chain.goes_on(PATIENCE_S):
            chain.kill()
        chain.alive()
    while time.monotonic() < deadline:
        time.sleep(1.0)


def _end(number: int, frame: FrameType | None) -> None:
    for handled in signal.SIGINT, signal.SIGTERM:
        signal.signal(handled, signal.SIG_IGN)
    raise Ended


def _ended(chain: Chain) -> list[str]:
    """Stop the run; what went wrong with that."""
    try:
        if not chain.is_alive:
            chain.alive()
        chain.remains.look()
        chain.stop()
        if left := chain.remains.left(LEFT_S):
            return [f"left behind: {left}"]
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return [f"the run could not be stopped: {error}"[:3000]]
    return []


def _note(chain: Chain, folder: Path, seed: int, minutes: float) -> None:
    """What is needed of the run, which goes with its folder."""
    again = Counter(one.part for one in restarts.read(chain.folder))
    ettr = [row["total/ettr"] for row in history.rows(chain.folder) if "total/ettr" in row]
    noted = {"seed": seed, "minutes": minutes, "restarts": again, "ettr": ettr[-1] if ettr else -1}
    (folder / RUN).write_text(json.dumps(noted))


def read(
    folder: Path, chain: Chain | None = None, troubles: list[str] | None = None
) -> report.Found:
    """Put together what there is.

    Args:
        folder: Of the samples and rows.
        chain: The run, where it is still there.
        troubles: What went wrong beside it.
    """
    noted = json.loads((folder / RUN).read_text()) if (folder / RUN).exists() else {}
    found, wrong = None, [*(troubles or [])]
    if chain is not None:
        try:
            found = balance.read(chain.folder, ROLLOUTS_PER_GROUP, GROUPS_PER_STEP)
        except (AssertionError, OSError) as error:
            wrong.append(f"no balance: {error}")
    files = sorted((folder / ROWS).glob("*.json"))
    return report.Found(
        seed=noted.get("seed", -1),
        minutes=noted.get("minutes", -1),
        rows=[Row(**json.loads(file.read_text())) for file in files],
        slopes=slopes.slopes(sampling.read(folder / SAMPLES)),
        balance=found,
        ettr=noted.get("ettr", -1),
        restarts=noted.get("restarts", {}),
        troubles=wrong,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
