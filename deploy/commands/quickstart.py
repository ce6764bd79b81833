"""The first look: a small transformer learns sums, end to end, on two cores.

Makes a model, its tokenizer and worked solutions; imitates them (SFT); evaluates; trains with
asynchronous OAPL; evaluates again; prints what changed. Every part is the one that a cluster runs.

The task: add five to seven numbers. The warm start has seen each problem either worked in steps
(`3+4=7;7+5=12;\\boxed{12}`) or, a little more often, terse (`\\boxed{12}`). It is right mostly when
it works in steps; what reinforcement has to find out is that working in steps pays.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands import _shared
from oapl.config import RunConfig
from oapl.errors import InputError

if TYPE_CHECKING:
    from deploy.run.program import RunOutcome

HELP = "the first look: a tiny model learns sums"
RECIPES = Path(__file__).parents[1] / "recipes"
TASK = {
    "min_terms": 5,
    "max_terms": 7,
    "min_digits": 1,
    "max_digits": 1,
    "operators": ("+",),
    "allow_parentheses": False,
    "allow_negation": False,
}
TERSE_SHARE = 0.6
SIZES = {"sft": 6000, "train": 8000, "eval": 256}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ '\\n' }}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_overrides(parser)


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.run.summary import exit_code

    return exit_code(quickstart(options.overrides))


def quickstart(overrides: Sequence[str]) -> RunOutcome:
    """Run the whole tour; `overrides` apply to the reinforcement half, seed and name to both.

    Raises:
        InputError: The run folder holds an earlier run.
    """
    from deploy.run import program, summary
    from oapl.config.toml import load_config

    started = time.monotonic()
    config = load_config(RECIPES / "cpu_quickstart.toml", [*placeholders(), *overrides])
    folder = config.folder
    if (folder / "checkpoints").exists():
        raise InputError(
            f"{folder} holds an earlier run; go on with it by "
            f"`oapl train {folder}/config.toml run.max_steps=N`, or choose another run.name"
        )
    start = prepare(folder / "start", config.run.seed)
    made_s = time.monotonic() - started
    warm = program.train(imitation(config, start))
    if warm.signal:
        return warm
    outcome = program.train(reinforcement(config, start, warm.folder / "model"))
    phases = {"make data": made_s, "sft": sum(warm.phases.values()), **outcome.phases}
    outcome = dataclasses.replace(outcome, phases=phases)
    if not outcome.signal:
        summary.show(outcome, time.monotonic() - started)
    return outcome


def placeholders() -> list[str]:
    """Overrides that let the recipe load before its model and data are made."""
    return ['model.path="made-by-quickstart"', 'data.sources.0.path="-"', 'eval.sources.0.path="-"']


def imitation(config: RunConfig, start: Path) -> RunConfig:
    """The first half: SFT on the worked solutions under `start`.

    Args:
        config: Of the second half; gives seed, folder and console.
        start: What `prepare` has made.
    """
    from oapl.config.toml import load_config

    return load_config(
        RECIPES / "cpu_quickstart_sft.toml",
        [
            f"run.seed={config.run.seed}",
            f"run.dir={json.dumps(str(config.folder))}",
            f"model.path={json.dumps(str(start / 'model'))}",
            f"data.sources.0.path={json.dumps(str(start / 'sft.jsonl'))}",
            f"tracking.console={json.dumps(config.tracking.console)}",
            'tracking.wandb="off"',
        ],
    )


def reinforcement(config: RunConfig, start: Path, model: Path) -> RunConfig:
    """The second half: OAPL on the problems under `start`.

    Args:
        config: Its recipe, with placeholders for model and data.
        start: What `prepare` has made.
        model: What the first half has trained.
    """

    def with_path(source: Any, name: str) -> Any:
        return dataclasses.replace(source, path=str(start / f"{name}.jsonl"))

    sources = (with_path(config.data.sources[0], "train"),)
    exams = (with_path(config.eval.sources[0], "eval"),)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, path=str(model)),
        data=dataclasses.replace(config.data, sources=sources),
        eval=dataclasses.replace(config.eval, sources=exams),
    )


def prepare(folder: Path, seed: int) -> Path:
    """Write problems, worked solutions, the tokenizer and an untrained model.

    Args:
        folder: Gets `train.jsonl`, `eval.jsonl`, `sft.jsonl` and `model/`.
        seed: Of problems, solutions and weights.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = _problems(seed)
    chance = random.Random(seed)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [next(problems) for _ in range(size)] for name, size in SIZES.items()
    }
    for row in rows["sft"]:
        row["response"] = _solution(row, chance.random() < TERSE_SHARE)
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    texts = [f"{row['prompt']}\n{row['response']}" for row in rows["sft"]]
    _make_model(folder / "model", texts, seed)
    return folder


def _problems(seed: int) -> Iterator[dict[str, Any]]:
    """Problems of reasoning-gym whose texts all differ, so that no set overlaps another."""
    import reasoning_gym

    seen: set[str] = set()
    data = reasoning_gym.create_dataset("basic_arithmetic", seed=seed, size=10**6, **TASK)
    for entry in data:
        if entry["question"] not in seen:
            seen.add(entry["question"])
            entry = json.loads(json.dumps(entry))
            yield {"prompt": entry["question"], "answer": entry["answer"], "entry": entry}


def _solution(row: dict[str, Any], is_terse: bool) -> str:
    terms = [int(term) for term in row["entry"]["metadata"]["expression"].split("+")]
    steps, total = [], terms[0]
    for term in terms[1:]:
        steps.append(f"{total}+{term}={total + term};")
        total += term
    return ("" if is_terse else "".join(steps)) + f"\\boxed{{{total}}}"


def _make_model(path: Path, texts: Sequence[str], seed: int) -> None:
    """A Llama of half a million parameters, and a byte-level BPE trained on `texts`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(False, use_regex=False),  # " + " is one: a fifth fewer
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    disable_progress_bar()  # of writing half a megabyte
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.06,  # at the usual 0.02 attention is uniform for hundreds of steps
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.max_length = config.max_position_embeddings  # else 20, with a warning
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
