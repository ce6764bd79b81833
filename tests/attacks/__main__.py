"""`make attacks`: every attack at every level, then with each layer switched off, and alone.

    python -m tests.attacks [--layers]

The exit code is 1 when an attack gets through a level that claims to stop it, when a forgery is
rewarded, or when an odd but correct program is refused. The second table says what each layer is
for; with `--layers` it is the only one.
"""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from reward_server.sandbox import measure
from reward_server.sandbox.levels import LAYERS_OF_LEVEL, LEVELS, Layers
from reward_server.sandbox.runner import SandboxError
from tests.attacks import catalogue, trial

LAYERS = ("namespaces", "landlock", "seccomp", "user", "limits")


def main() -> int:
    console = Console(width=130)
    console.print(str(measure.strongest()))
    is_bad = "--layers" not in sys.argv and _levels(console)
    _layers(console)
    return int(is_bad)


def _levels(console: Console) -> bool:
    table = Table("level", "attacks stopped", "forgeries stopped", "correct accepted")
    lines = []
    for level in reversed(LEVELS[1:]):
        try:
            tried = [attack for attack in catalogue.attacks() if trial.applies(attack, level)]
            through = attack_all(LAYERS_OF_LEVEL[level], tried)
        except SandboxError as error:
            lines.append(f"{level}: not here: {error}")
            continue
        forgeries = catalogue.forgeries()
        correct = [program for program in catalogue.correct() if trial.applies(program, level)]
        with trial.verifier(level) as judge:
            paid = [f.what for f in forgeries if trial.reward_of(f, judge)]
            refused = [
                f"{program.what}: {verdict.kind}: {verdict.detail}"
                for program in correct
                if (verdict := trial.verdict_on(program, judge)).kind != "accepted"
            ]
        table.add_row(
            level,
            f"{len(tried) - len(through)} of {len(tried)}",
            f"{len(forgeries) - len(paid)} of {len(forgeries)}",
            f"{len(correct) - len(refused)} of {len(correct)}",
        )
        lines += [f"{level}, got through: {a.what}: {how}" for a, how in through]
        lines += [f"{level}, was rewarded: {what}" for what in paid]
        lines += [f"{level}, refused: {what}" for what in refused]
    console.print(table)
    for line in lines:
        console.print(line, markup=False)
    return any("not here" not in line for line in lines)


def _layers(console: Console) -> None:
    """Attacks that do not end are left out: what stops them is the deadline, which is no layer."""
    machine = platform.machine()
    attacks = [
        attack
        for attack in catalogue.attacks()
        if attack.architecture in ("", machine) and not attack.is_endless
    ]
    console.print(f"{len(attacks)} attacks; with only some of the layers, these get through:")
    table = Table("layers", *catalogue.GROUPS, "got through")
    rows = [(f"all but {layer}", trial.without(layer)) for layer in LAYERS]
    rows += [(f"{layer} alone", trial.only(layer)) for layer in LAYERS]
    for name, layers in [("all", LAYERS_OF_LEVEL["namespaces"]), *rows]:
        through = attack_all(layers, attacks)
        counts = Counter(attack.group for attack, _ in through)
        whats = "; ".join(attack.what for attack, _ in through)
        table.add_row(name, *(str(counts[group]) for group in catalogue.GROUPS), whats)
    console.print(table)


def attack_all(
    layers: Layers, attacks: Sequence[catalogue.Attack]
) -> list[tuple[catalogue.Attack, str]]:
    """The attacks that got through, and how."""
    with trial.world() as world, trial.sandbox(layers) as sandbox:
        tried = [(attack, trial.succeeds(attack, sandbox, world)) for attack in attacks]
    return [(attack, how) for attack, how in tried if how]


if __name__ == "__main__":
    sys.exit(main())
