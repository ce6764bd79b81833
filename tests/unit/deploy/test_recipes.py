"""Every recipe is a configuration whose rules hold; the model and the data need not be here."""

import json
import re
from pathlib import Path

import pytest

import deploy
from deploy.checks.preflight import preflight
from deploy.checks.stages import check_all, look_at_stages
from deploy.commands import quickstart
from deploy.sizing.hardware import parse
from oapl.config.toml import load_config
from oapl.devices.base import engine_name

RECIPES = sorted((Path(deploy.__file__).parent / "recipes").glob("[!_]*.toml"))
SIZED = re.compile(r"# Sized by: oapl (?:train|sft) deploy/recipes/(\w+).toml --for (\S+)")
OF_CARDS = [path for path in RECIPES if SIZED.search(path.read_text())]
OF_32B = ("qwen2", 5120, 27648, 64, 40, 8, False, 152064)
SHAPES = {  # model_type, hidden, intermediate, layers, heads, kv heads, tied, vocabulary
    "Qwen/Qwen2.5-1.5B-Instruct": ("qwen2", 1536, 8960, 28, 12, 2, True, 151936),
    "Qwen/Qwen3-4B": ("qwen3", 2560, 9728, 36, 32, 8, True, 151936),
    "Qwen/Qwen3-4B-Thinking-2507": ("qwen3", 2560, 9728, 36, 32, 8, True, 151936),
    "Qwen/Qwen3-8B": ("qwen3", 4096, 12288, 36, 32, 8, False, 151936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": ("qwen2", 1536, 8960, 28, 12, 2, False, 151936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": ("qwen2", 3584, 18944, 28, 28, 4, False, 152064),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": ("qwen2", 5120, 13824, 48, 40, 8, False, 152064),
    "meta-llama/Llama-3.1-8B": ("llama", 4096, 14336, 32, 32, 8, False, 128256),
    "Qwen/Qwen2.5-32B": OF_32B,
    "runs/pcl-sft/model": OF_32B,
}
KEYS = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "tie_word_embeddings"),
    "vocab_size",
)
REST = {"head_dim": 128, "max_position_embeddings": 131072}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_breaks_no_rule(recipe):
    bare = load_config(recipe, [])
    filled = [] if bare.model.path else ["model.path=made-by-the-quickstart"]
    for section in ("data", "eval"):
        for index, source in enumerate(getattr(bare, section).sources):
            if not (source.path or source.dataset or source.task):
                filled.append(f"{section}.sources.{index}.path=made-by-the-quickstart")
    for number, stage in enumerate(bare.stages):
        given = stage.get("data", {}).get("sources", ())
        for index, source in enumerate(given if isinstance(given, list) else ()):
            if not source.keys() & {"path", "dataset", "task", "set"}:
                place = f"stages.{number}.data.sources.{index}.path"
                filled.append(f"{place}=made-by-the-quickstart")
    check_all(load_config(recipe, filled))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_a_screen_and_its_first_line_says_what_for(recipe):
    lines = recipe.read_text().splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith("# ")
    if load_config(recipe, []).cluster.device != "cpu":
        assert engine_name(load_config(recipe, [])) == "vllm_async"


@pytest.mark.parametrize("recipe", OF_CARDS, ids=lambda path: path.stem)
def test_a_recipe_fits_the_machine_that_its_head_names(recipe, tmp_path):
    name, hardware = SIZED.search(recipe.read_text()).groups()
    assert name == recipe.stem
    shape = dict(zip(KEYS, SHAPES[load_config(recipe, []).model.path], strict=True))
    (tmp_path / "config.json").write_text(json.dumps({**shape, **REST}))
    config = load_config(recipe, [f"model.path={tmp_path}"])
    if config.is_staged:
        found = look_at_stages(config, is_dry=True, hardware=parse(hardware))
        made = [found.reports[stage.name] for stage in found.stages if stage.kind == "train"]
    else:
        made = [preflight(config, is_dry=True, hardware=parse(hardware))]
    assert all("0 idle" in one.facts["devices"] for one in made)


def test_the_quickstart_has_nothing_to_warn_of(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "SIZES", {"sft": 64, "train": 64, "eval": 16})
    start = quickstart.prepare(tmp_path / "start", seed=0)
    config = quickstart.load([*quickstart.made(start), f"run.dir={tmp_path}"])
    found = look_at_stages(config)
    assert {name: report.notes for name, report in found.reports.items()} == {
        "imitate": (),
        "reinforce": (),
    }


def test_every_recipe_for_cards_says_for_which():
    for recipe in RECIPES:
        if load_config(recipe, []).cluster.device != "cpu":
            assert recipe in OF_CARDS, f"{recipe.name}: its head names no machine"
