"""`oapl init`: a commented recipe for a model and a data file, from a look at both.

Invariants: what is written passes the checks of `oapl train --dry-run`; it holds only the settings
that matter for this model and this data, each with its sentence; nothing is overwritten unasked.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.data.encoding import in_chunks
from actors.data.sources import Row, read_problems, read_rows
from actors.data.templates import choose
from actors.data.tokenizer import load_model_config, load_tokenizer
from deploy.checks.preflight import preflight
from deploy.sizing.hardware import accelerators
from oapl.config import plugins
from oapl.config.listing import literal, settings
from oapl.config.sections import DataSection, DataSource
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.whole_files import written_aside
from reward_server.answers import notation

PROMPTS = ("prompt", "question", "problem", "instruction", "query", "input", "messages")
ANSWERS = ("answer", "final_answer", "expected_answer", "ground_truth", "target", "label", "output")
"""Names of columns, the likeliest first."""
LEARNING_RATES = ((1e7, 5e-5), (3e8, 1e-5), (3e9, 2e-6))
"""Parameters up to which a rate holds; larger models get `LEAST_RATE`. A start, not a law."""
LEAST_RATE = 1e-6
LONG_ANSWER = 12
"""Words: what is longer is prose, which no verifier compares well."""
RESPONSE_SHARE = 0.4
"""Of `rollout.max_tokens`, what a response takes as a rule."""
BETA2_AT, BETA2_POWER = (25.0, 0.1), 0.77
"""beta2 is 0.1 at 25 tokens and 1e-3 at 10^4, the two lengths for which values are known."""
WIDTH = 98


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the device decides.

    Attributes:
        response: Most tokens of a response, where the model's context has the room.
    """

    dtype: str
    precision: str
    response: int
    batch_size: int
    micro_batch_tokens: int
    interval: int
    why_precision: str


CPU = Scale(
    dtype="float32",
    precision="fp32",
    response=256,
    batch_size=64,
    micro_batch_tokens=2048,
    interval=10,
    why_precision="on a CPU engine and learner agree exactly in fp32, and bf16 is no faster",
)
ACCELERATOR = Scale(
    dtype="bfloat16",
    precision="bf16",
    response=4096,
    batch_size=256,
    micro_batch_tokens=16384,
    interval=50,
    why_precision="half the memory; the probe after each publication bounds the difference",
)
GROUP_SIZE = 8
LARGE = 1e9
"""Parameters from which activations are recomputed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A look at the model."""

    path: str
    kind: str
    parameters: int
    context: int
    is_chat: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A look at the data.

    Attributes:
        lengths: Tokens of each prompt as the model will see it, ascending.
        answers: Kind of answer (`number`, `expression`, `words`, `prose`, `puzzle`) to its share.
    """

    path: str
    prompt_key: str
    answer_key: str
    lengths: Sequence[int]
    answers: Mapping[str, float]

    @property
    def verifier(self) -> str:
        return "reasoning_gym" if "puzzle" in self.answers else "math"


@dataclass(frozen=True, slots=True)
class Choice:
    """A line of the recipe: a setting's dotted key, its value, and why it is that."""

    key: str
    value: Any
    why: str = ""


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
    plugins.load("oapl.devices", device, "--device")
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


# Looks


def look_at_model(path: str, *, is_chat: bool) -> Model:
    """Kind, size and context, from `config.json` alone.

    Raises:
        InputError: There is none that transformers can read, or it is no language model.
    """
    found = load_model_config(path)
    folder = Path(path).expanduser()
    return Model(
        path=str(folder.absolute()) if folder.is_dir() else path,
        kind=str(found.model_type),
        parameters=_parameters(path, found),
        context=int(getattr(found, "max_position_embeddings", 0) or 0),
        is_chat=is_chat,
    )


def _parameters(path: str, config: Any) -> int:
    """Counted on a model without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise InputError(
            f"model.path = {path!r}: {config.model_type} is no causal language model; give one"
        ) from error
    return sum(parameter.numel() for parameter in empty.parameters())


def look_at_data(path: Path, tokenizer: Any) -> Data:
    """Columns, kinds of answers, and lengths of prompts.

    Raises:
        InputError: The file cannot be read, or no column looks like a prompt or an answer.
    """
    place = str(path.expanduser().absolute())
    raw = DataSource(name="data", path=place)
    rows = [row for _, row in read_rows(raw)]
    if not rows:
        raise InputError(f"{path} has no rows; give at least one problem")
    source = DataSource(
        name="data",
        path=place,
        prompt_key=_column(path, rows, PROMPTS, "a prompt"),
        answer_key=_column(path, rows, ANSWERS, "a reference answer"),
    )
    template = choose(DataSection(), tokenizer)
    texts = [template.render(problem) for problem in read_problems(source)]
    return Data(
        path=place,
        prompt_key=source.prompt_key,
        answer_key=source.answer_key,
        lengths=sorted(map(len, in_chunks(template.encode, texts))),
        answers=_shares([_kind(row, source.answer_key) for row in rows]),
    )


def _column(path: Path, rows: Sequence[Row], names: Sequence[str], what: str) -> str:
    """The likeliest column that every row has."""
    common = set(rows[0]).intersection(*rows)
    found = next((name for name in names if name in common), None)
    if found is None:
        raise InputError(
            f"{path}: no column that every row has looks like {what}; there are "
            f"{', '.join(rows[0]) or 'none'}; call it {' or '.join(names[:3])}"
        )
    return found


def _kind(row: Row, key: str) -> str:
    if isinstance(row.get("entry"), Mapping) and "metadata" in row["entry"]:
        return "puzzle"
    value = row[key]
    text = str(value[0] if isinstance(value, list) and value else value)
    if "####" in text or "\\boxed" in text:  # the answer stands behind its derivation
        text = text.rpartition("####")[2]
    if notation.number(notation.clean(text)):
        return "number"
    if len(text.split()) > LONG_ANSWER:
        return "expression" if "\\boxed" in text else "prose"
    return "words" if re.fullmatch(r"[A-Za-z ,.'-]{3,}", text) else "expression"


def _shares(kinds: Sequence[str]) -> dict[str, float]:
    if set(kinds) != {"puzzle"}:  # a scorer needs every row's entry
        kinds = ["words" if kind == "puzzle" else kind for kind in kinds]
    counts = {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


# Choices


def choices(model: Model, data: Data, device: str, name: str) -> Iterator[Choice]:
    """The settings that matter, in the order of the config's sections."""
    scale = CPU if device == "cpu" else ACCELERATOR
    response, context = _room(model, data, scale)
    groups_per_step = scale.batch_size // GROUP_SIZE
    yield Choice("run.name", name)
    yield Choice("run.max_steps", *_steps(len(data.lengths), groups_per_step, scale.interval))
    yield Choice("model.path", model.path)
    yield Choice("model.dtype", scale.dtype, scale.why_precision)
    yield Choice("data.sources.0.name", _source_name(data))
    yield Choice("data.sources.0.path", data.path)
    if data.prompt_key != "prompt":
        yield Choice("data.sources.0.prompt_key", data.prompt_key)
    if data.answer_key != "answer":
        yield Choice("data.sources.0.answer_key", data.answer_key)
    yield Choice("rollout.group_size", GROUP_SIZE)
    fits = f"prompts have {data.lengths[0]} to {data.lengths[-1]} tokens"
    yield Choice("rollout.max_tokens", response, fits)
    yield Choice("rollout.context_tokens", context, "bounds the engine's memory")
    yield Choice("reward.verifiers", {data.verifier: 1.0}, _answers(data))
    yield Choice("objective.name", "oapl")
    yield Choice("objective.beta1", 1.0)
    yield Choice("objective.beta2", _beta2(response), "for responses of this length")
    size = f"for {_millions(model.parameters)} parameters; a start, not a law"
    yield Choice("optimizer.lr", _rate(model.parameters), size)
    yield Choice("learner.batch_size", scale.batch_size)
    yield Choice("learner.micro_batch_tokens", max(scale.micro_batch_tokens, context))
    yield Choice("learner.precision", scale.precision)
    if device == "cpu":
        yield Choice("learner.row_tokens", 1)
    elif model.parameters >= LARGE:
        yield Choice("learner.activation_checkpointing", True)
    yield Choice("sync.interval", scale.interval)
    if device != "cpu":
        yield Choice("cluster.device", device)


def _room(model: Model, data: Data, scale: Scale) -> tuple[int, int]:
    """Tokens of a response, and of prompt and response together."""
    longest = data.lengths[-1]
    if not model.context:
        return scale.response, longest + scale.response
    room = max(model.context - longest, model.context // 2)  # longer prompts are dropped
    response = min(scale.response, 1 << (room.bit_length() - 1))
    return response, min(model.context, -(-(longest + response) // 32) * 32)


def _steps(problems: int, groups_per_step: int, interval: int) -> tuple[int, str]:
    """Three epochs, between 100 and 1000 steps, whole periods."""
    wanted = min(max(3 * problems / groups_per_step, 100), 1000)
    steps = -(-int(wanted) // interval) * interval
    return steps, f"{steps * groups_per_step / problems:.1f} passes over {problems:,} problems"


def _source_name(data: Data) -> str:
    stem = Path(data.path).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_.-]", "-", stem).lstrip("-._") or "data"


def _beta2(response: int) -> float:
    length, value = BETA2_AT
    beta2 = value * (length / max(response * RESPONSE_SHARE, length)) ** BETA2_POWER
    return float(f"{max(beta2, 1e-3):.0e}")


def _rate(parameters: int) -> float:
    return next((rate for most, rate in LEARNING_RATES if parameters <= most), LEAST_RATE)


def _answers(data: Data) -> str:
    shares = ", ".join(f"{share:.0%} {kind}" for kind, share in data.answers.items())
    return f"answers: {shares}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"


# Text


def written(model: Model, data: Data, device: str, name: str, output: Path) -> str:
    """The recipe, commented."""
    helps = _helps()
    middle = data.lengths[len(data.lengths) // 2]
    lines = [
        f"# Made by `oapl init` for {device}. Try it: oapl train {output} --dry-run",
        f"# model: {model.kind}, {_millions(model.parameters)} parameters, context "
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
    objective = plugins.load("oapl.objectives", "oapl").Config
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
    """What the recipe cannot say by itself."""
    if prose := data.answers.get("prose"):
        yield (
            f"{prose:.0%} of the answers are prose, which the math verifier seldom accepts; "
            "write a function of your own (reward.verifiers.function, see `oapl train --help`)"
        )
    if model.context and data.lengths[-1] > model.context // 2:
        longest = data.lengths[-1]
        yield f"prompts of up to {longest} tokens leave little of a context of {model.context}"
    yield f"wrote {output}; next: oapl train {output} --dry-run"
