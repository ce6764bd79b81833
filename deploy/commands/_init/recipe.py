"""The recipe as it is written, with a sentence above each setting.

Invariants: what is written passes the checks of `oapl train --dry-run`; it holds only the settings
that matter for this model and this data; nothing is overwritten unasked.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from actors.data.tokenizer import load_tokenizer
from deploy.checks.preflight import preflight
from deploy.commands._init.choices import choices, millions
from deploy.commands._init.looks import Data, Model, look_at_data, look_at_model
from deploy.sizing.hardware import accelerators
from oapl.config.listing import literal, settings
from oapl.config.objective import OBJECTIVES
from oapl.config.toml import load_config
from oapl.devices.base import DEVICES
from oapl.errors import InputError
from oapl.whole_files import written_aside

WIDTH = 98


def init(
    model: str,
    data: Path,
    *,
    device: str = "",
    output: Path = Path("recipe.toml"),
    force: bool = False,
) -> list[str]:
    """Write `output`.

    Args:
        model: Folder or hub name.
        data: JSONL or Parquet file of problems.
        device: A file of oapl/devices; empty takes what torch sees here.
        output: Where to write.
        force: Replace a file that is there.

    Returns:
        What a person should know: one line each.

    Raises:
        InputError: The file exists, or model or data cannot be used.
    """
    if output.exists() and not force:
        raise InputError(f"{output} exists; choose another name by -o, or replace it by --force")
    device = device or next(iter(accelerators()), "cpu")
    DEVICES.load(device, "--device")
    tokenizer = load_tokenizer(model)
    seen_model = look_at_model(model, is_chat=bool(tokenizer.chat_template))
    seen_data = look_at_data(data, tokenizer)
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", output.stem).lstrip("-._") or "run"
    text = written(seen_model, seen_data, device, name, output)
    try:
        with written_aside(output) as part:
            part.write_text(text)
            preflight(load_config(part))
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error}); choose another -o") from error
    return list(notes(seen_model, seen_data, output))


def written(model: Model, data: Data, device: str, name: str, output: Path) -> str:
    """The recipe, commented.

    Args:
        model, data: As they were seen.
        device: A file of oapl/devices.
        name: Of the run.
        output: Where it will be, for the line that says how to try it.
    """
    helps = _helps()
    middle = data.lengths[len(data.lengths) // 2]
    lines = [
        f"# Made by `oapl init` for {device}. Try it: oapl train {output} --dry-run",
        f"# model: {model.kind}, {millions(model.parameters)} parameters, context "
        f"{model.context or 'not stated'}, {'chat template' if model.is_chat else 'plain text'}",
        f"# data: {len(data.lengths):,} problems, prompts of {data.lengths[0]} to "
        f"{data.lengths[-1]} tokens, half of them up to {middle}",
    ]
    section = ""
    for choice in choices(model, data, device, name):
        prefix, _, key = choice.key.rpartition(".")
        if prefix != section:
            section = prefix
            is_list = prefix.endswith(".0")
            lines += ["", f"[[{prefix[:-2]}]]" if is_list else f"[{prefix}]"]
        lines += _comment(helps.get(choice.key.replace(".0.", ".N."), ""), choice.why)
        lines.append(f"{key} = {literal(choice.value)}")
    return "\n".join([*lines, *_evaluation(data), ""])


def _helps() -> dict[str, str]:
    objective = OBJECTIVES.load("oapl").Config
    return {setting.key: setting.help for setting in settings()} | {
        setting.key: setting.help for setting in settings(objective, "objective.")
    }


def _comment(text: str, why: str) -> list[str]:
    whole = f"{text.rstrip('.')} ({why})." if text and why else text or why
    return textwrap.wrap(whole, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _evaluation(data: Data) -> list[str]:
    """What nobody can choose for the user: problems that are not trained on."""
    keys = (("prompt_key", data.prompt_key, "prompt"), ("answer_key", data.answer_key, "answer"))
    return [
        "",
        "# Evaluated before and after training, when it names problems that are not trained on:",
        "# [[eval.sources]]",
        '# name = "held-out"',
        '# path = "..."',
        *(f"# {key} = {literal(value)}" for key, value, default in keys if value != default),
    ]


def notes(model: Model, data: Data, output: Path) -> Iterator[str]:
    """What the recipe cannot say by itself, a line each.

    Args:
        model, data: As they were seen.
        output: Where it is.
    """
    if prose := data.answers.get("prose"):
        yield (
            f"{prose:.0%} of the answers are prose, which the math verifier seldom accepts; "
            "write a function of your own (reward.verifiers.function, see `oapl train --help`)"
        )
    if model.context and data.lengths[-1] > model.context // 2:
        longest = data.lengths[-1]
        yield f"prompts of up to {longest} tokens leave little of a context of {model.context}"
    yield f"wrote {output}; next: oapl train {output} --dry-run"
