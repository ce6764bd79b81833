"""The command `oapl` (`python -m oapl COMMAND`): words to functions, errors to exit codes.

Exit codes: 0 done, 1 failed, 2 bad input, 130 and 143 stopped by SIGINT and SIGTERM (with a
checkpoint). Nothing imports this module; it is the one place of `oapl` that imports `deploy`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oapl.config import RunConfig
from oapl.errors import InputError, OaplError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PACKAGES = ("oapl", "actors", "learner", "reward_server", "deploy")
EXIT_FAILED, EXIT_INPUT, EXIT_SIGNAL = 1, 2, 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    options = _parse(arguments)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        _check_packages()
        return int(options.run(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except OaplError as error:
        print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_SIGNAL + 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may also stand behind an option, where argparse looks for none."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if unknown or (rest and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oapl",
        description="Asynchronous off-policy RL post-training of reasoning language models.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_runs(commands)
    _add_submit(commands)
    _add_score(commands)
    _add_views(commands)
    _add_first_steps(commands)
    return parser


def _add_runs(commands: Commands) -> None:
    for name, run, text in (
        ("train", _train, "train by reinforcement learning"),
        ("sft", _sft, "train by imitation of given responses"),
        ("eval", _eval, "evaluate a model"),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text}; settings come from RECIPE, then from KEY=VALUE overrides",
            epilog=_LazySettings("%(prog)s"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("recipe", metavar="RECIPE", type=Path, help="a TOML file")
        command.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="dotted overrides")
        command.add_argument(
            "--dry-run",
            action="store_true",
            help="print the resolved configuration, refuse what cannot work, start nothing",
        )
        if name != "eval":
            command.add_argument(
                "--for",
                dest="hardware",
                metavar="DEVICES",
                default="",
                help="a dry run for a machine that is not here, like cuda:8x80GiB",
            )
        command.set_defaults(run=run)


def _add_submit(commands: Commands) -> None:
    submit = commands.add_parser(
        "submit",
        help="train on a Ray cluster, as a job: ships the code, streams the logs",
        description="The same run as `oapl train` (or `sft`) as a Ray job. Ctrl-C stops it with a "
        "checkpoint. The exit code is the run's own.",
    )
    submit.add_argument("recipe", metavar="RECIPE", type=Path, help="a TOML file")
    submit.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="dotted overrides")
    submit.add_argument(
        "--address",
        default="",
        help="http://HOST:8265 of the cluster (default RAY_ADDRESS, else cluster.address)",
    )
    submit.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="more files of the working directory that stay here, as in .gitignore",
    )
    submit.add_argument(
        "--grace",
        metavar="SECONDS",
        type=int,
        default=600,
        help="time for the last checkpoint when the job is stopped (default 600)",
    )
    submit.set_defaults(run=_submit)


def _add_score(commands: Commands) -> None:
    score = commands.add_parser(
        "score",
        help="judge stored responses by one verifier",
        description="Judges records {id, response, prompt, answer, ...} (.jsonl, .jsonl.gz, "
        ".parquet; a run's stored rollouts too) and writes {id, verdict, reward, detail, parts, "
        "seconds}, one line each, in the same order. Needs no Ray.",
    )
    score.add_argument("source", metavar="IN", type=Path, help="the records")
    score.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="dotted overrides")
    score.add_argument("--verifier", required=True, metavar="NAME", help="math, code, ifeval...")
    score.add_argument("--out", required=True, type=Path, metavar="OUT", help="the verdicts")
    score.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the verifier's own; may be given again",
    )
    score.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    score.add_argument("--deadline", type=float, metavar="SECONDS", help="limit for one record")
    score.add_argument("--overwrite", action="store_true", help="replace OUT")
    score.set_defaults(run=_score)


def _add_views(commands: Commands) -> None:
    show = commands.add_parser("show", help="read stored rollouts, best and worst first")
    show.add_argument("folder", metavar="RUN", type=Path, help="a run folder")
    show.add_argument("--limit", type=int, default=5, help="rollouts of each end (default 5)")
    show.set_defaults(run=_show)
    watch = commands.add_parser("watch", help="the live view of a run, from another terminal")
    watch.add_argument("folder", metavar="RUN", type=Path, help="a run folder")
    watch.set_defaults(run=_watch)


def _add_first_steps(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="what this machine lacks for a run, with remedies")
    doctor.add_argument("recipe", metavar="RECIPE", type=Path, nargs="?", help="check it too")
    doctor.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="dotted overrides")
    doctor.add_argument("--ray", action="store_true", help="start Ray and end it again")
    doctor.set_defaults(run=_doctor)
    init = commands.add_parser("init", help="write a commented recipe for a model and a data file")
    init.add_argument("--model", required=True, help="folder or hub name")
    init.add_argument("--data", required=True, type=Path, help="JSONL or Parquet file of problems")
    init.add_argument("--device", default="", help="cpu, cuda or npu (default: what torch sees)")
    init.add_argument("-o", "--output", type=Path, default=Path("recipe.toml"), metavar="FILE")
    init.add_argument("--force", action="store_true", help="replace FILE")
    init.set_defaults(run=_init)
    quick = commands.add_parser("quickstart", help="the first look: a tiny model learns sums")
    quick.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="dotted overrides")
    quick.set_defaults(run=_quickstart)


class _LazySettings(str):
    """All settings with their help; built only when the help is printed."""

    def __mod__(self, values: object) -> str:
        from oapl.config.toml import help_text

        return help_text()

    def __bool__(self) -> bool:
        return True


def _train(options: argparse.Namespace) -> int:
    config = _config(options)
    if config.is_imitation:
        raise InputError('objective.name = "sft" imitates; run `oapl sft`, or choose "oapl"')
    return _run(config, options)


def _sft(options: argparse.Namespace) -> int:
    config = _config(options)
    if not config.is_imitation:
        raise InputError(
            f"objective.name = {config.objective['name']!r} learns from rewards; `oapl sft` needs "
            '"sft", or run `oapl train`'
        )
    return _run(config, options)


def _run(config: RunConfig, options: argparse.Namespace) -> int:
    if options.dry_run or options.hardware:
        return _dry_run(config, training=True, hardware=options.hardware)
    from deploy.run import program, summary

    return summary.report(program.train(config))


def _submit(options: argparse.Namespace) -> int:
    from deploy.commands.submit import submit

    return submit(
        options.recipe,
        options.overrides,
        address=options.address,
        exclude=options.exclude,
        grace_s=options.grace,
    )


def _eval(options: argparse.Namespace) -> int:
    config = _config(options)
    if options.dry_run:
        return _dry_run(config, training=False)
    from deploy.run import program, summary

    summary.show_evaluation(program.evaluate(config))
    return 0


def _config(options: argparse.Namespace) -> RunConfig:
    from oapl.config.toml import load_config

    return load_config(options.recipe, options.overrides)


def _score(options: argparse.Namespace) -> int:
    from deploy.commands.score import score

    return score(
        options.source,
        options.verifier,
        options.out,
        options=options.option,
        overrides=options.overrides,
        workers=options.workers,
        deadline_s=options.deadline,
        overwrite=options.overwrite,
    )


def _show(options: argparse.Namespace) -> int:
    from oapl.tracking.rollouts import show

    show(options.folder, options.limit)
    return 0


def _watch(options: argparse.Namespace) -> int:
    from oapl.tracking.watch import watch

    return watch(options.folder)


def _doctor(options: argparse.Namespace) -> int:
    from deploy.doctor.examination import doctor

    return doctor(options.recipe, options.overrides, start_ray=options.ray)


def _init(options: argparse.Namespace) -> int:
    from deploy.commands.init import init

    for line in init(
        options.model,
        options.data,
        device=options.device,
        output=options.output,
        force=options.force,
    ):
        print(line)
    return 0


def _quickstart(options: argparse.Namespace) -> int:
    from deploy.commands.quickstart import quickstart

    outcome = quickstart(options.overrides)
    return EXIT_SIGNAL + outcome.signal if outcome.signal else 0


def _dry_run(config: RunConfig, *, training: bool, hardware: str = "") -> int:
    from deploy.checks.preflight import preflight
    from deploy.sizing.hardware import parse

    there = parse(hardware) if hardware else None
    print(preflight(config, training=training, is_dry=True, hardware=there))
    return 0


def _check_packages() -> None:
    """Distributions called actors, learner and deploy exist; ours must be the ones found."""
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        found = Path(str(importlib.import_module(name).__file__)).resolve().parents[1]
        if found != root:
            raise InputError(
                f"package {name} comes from {found}, not from {root}: another distribution of that "
                "name is installed; uninstall it or use an environment of its own"
            )


if __name__ == "__main__":
    sys.exit(main())
