"""A model's state by name, from one layout of DeepSpeed's to another; the real thing is by hand."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from learner.checkpoints import by_name, engine_state
from learner.checkpoints.by_name import Pieces
from learner.models.frozen import FrozenPolicies
from learner.shares import Stretch
from oapl.errors import CheckpointError

LAYOUTS = [(0, 1), (1, 1), (3, 1), (0, 2), (1, 2), (3, 2), (1, 3), (3, 3)]
"""Stage and number of ranks. Stage 2 lays parameters as stage 1 does."""


class Model(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(torch.randn(5, 3, generator=chance).bfloat16())
        self.b = nn.Parameter(torch.randn(2, generator=chance).bfloat16())
        self.c = nn.Parameter(torch.randn(7, generator=chance).bfloat16())
        self.register_buffer("bias", torch.randn(3, generator=chance))


@dataclass
class Engine:
    """One rank's, as DeepSpeed lays it out, and its AdamW."""

    inner: SimpleNamespace
    adam: SimpleNamespace
    frozen: FrozenPolicies | None = None


def masters(seed):
    chance = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=chance) for name, p in Model().named_parameters()}


def engine(monkeypatch, stage, num_ranks, rank, *, seed=0, moments=True):
    """A rank of a run, whose masters, moments and weights are made of a seed."""
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *_: rank)
    module, adam = Model(seed), SimpleNamespace(state={}, defaults={"fused": False})
    lay = {0: _whole, 1: _flat, 3: _partitions}[stage]
    optimizer = lay(module, adam, masters(seed), masters(seed + 1) if moments else None, num_ranks)
    inner = SimpleNamespace(
        module=module, optimizer=optimizer, zero_optimization_stage=lambda: stage
    )
    return Engine(inner, adam, FrozenPolicies(module))


def _state(owner, moments):
    state = {"exp_avg": moments, "exp_avg_sq": moments**2, "step": torch.tensor(4.0)}
    return {} if moments is None else {owner: state}


def _whole(module, adam, values, moments, _):
    copies = []
    for name in values:
        copies.append(values[name].clone())
        if moments is not None:
            adam.state |= _state(copies[-1], moments[name].clone())
    return SimpleNamespace(fp16_groups=[[*module.parameters()]], fp32_groups=[copies])


def _padded(values, num_ranks, rank):
    flat = torch.cat([value.flatten() for value in values.values()])
    size = -(-len(flat) // num_ranks)
    flat = torch.cat([flat, torch.zeros(size * num_ranks - len(flat))])
    return flat[rank * size : (rank + 1) * size].clone()


def _flat(module, adam, values, moments, num_ranks):
    rank = torch.distributed.get_rank()
    owner = _padded(values, num_ranks, rank)
    if moments is not None:
        adam.state |= _state(owner, _padded(moments, num_ranks, rank))
    before, begin, end = 0, rank * len(owner), (rank + 1) * len(owner)
    for parameter in module.parameters():
        first, last = max(before, begin), min(before + parameter.numel(), end)
        parameter._hp_mapping = None
        if first < last:
            high = SimpleNamespace(start=first - begin, numel=last - first)
            parameter._hp_mapping = SimpleNamespace(
                param_group_index=0,
                lp_fragment_address=SimpleNamespace(start=first - before, numel=last - first),
                get_hp_fragment_address=lambda high=high: high,
            )
        before += parameter.numel()
    return SimpleNamespace(param_groups=[{"params": [owner]}])


def _partitions(module, adam, values, moments, num_ranks):
    rank, parts, places, at = torch.distributed.get_rank(), [], {}, 0
    for number, (name, parameter) in enumerate(module.named_parameters()):
        part = _padded({name: values[name]}, num_ranks, rank)
        parameter.ds_id, parameter.ds_numel = number, parameter.numel()
        parameter.ds_status = SimpleNamespace(name="NOT_AVAILABLE")
        parameter.ds_tensor = _padded({name: parameter.data}, num_ranks, rank).bfloat16()
        parameter.ds_tensor.ds_numel = len(part)
        parts.append(part)
        places[number] = (0, at, len(part))
        at += len(part)
    owner = torch.cat(parts)
    if moments is not None:
        each = [_padded({name: moments[name]}, num_ranks, rank) for name in values]
        adam.state |= _state(owner, torch.cat(each))
    return SimpleNamespace(
        fp32_partitioned_groups_flat=[owner],
        grad_position=places,
        get_param_id=lambda parameter: parameter.ds_id,
    )


def save(monkeypatch, folder, stage, num_ranks, **options):
    for rank in range(num_ranks):
        one = engine(monkeypatch, stage, num_ranks, rank, **options)
        one.frozen.copy("reference")
        tensors = engine_state.kept(one.inner, one.adam, one.frozen)
        by_name.write(folder, rank, tensors, engine_state.steps_of(one.inner, one.adam))
    return Pieces(folder, "model.path")


def everything(pieces):
    found = {key: pieces.read(key, Stretch(0, pieces.size(key))) for key in pieces.written()}
    return found, pieces.steps


def assert_equal(one, other):
    assert one[0].keys() == other[0].keys()
    assert [key for key in one[0] if not torch.equal(one[0][key], other[0][key])] == []
    assert one[1] == other[1]


@pytest.mark.parametrize(("stage", "num_ranks"), LAYOUTS)
def test_every_layout_writes_the_same(monkeypatch, tmp_path, stage, num_ranks):
    found, steps = everything(save(monkeypatch, tmp_path, stage, num_ranks))
    for name, value in masters(0).items():
        assert torch.equal(found[f"weight|{name}"], value.flatten())
        assert torch.equal(found[f"exp_avg|{name}"], masters(1)[name].flatten())
    assert torch.equal(found["set.reference|a"], Model().a.detach().flatten())
    assert torch.equal(found["buffer|bias"], Model().bias)
    assert steps == dict.fromkeys("abc", 4.0)


@pytest.mark.parametrize(("stage", "num_ranks"), LAYOUTS)
@pytest.mark.parametrize("was_stepped", [True, False])
def test_every_layout_takes_over_what_another_wrote(
    monkeypatch, tmp_path, stage, num_ranks, was_stepped
):
    pieces = save(monkeypatch, tmp_path / "came", 1, 2)
    for rank in range(num_ranks):
        one = engine(monkeypatch, stage, num_ranks, rank, seed=7, moments=was_stepped)
        engine_state.put_back(one.inner, one.adam, pieces)
        one.frozen.restore(engine_state.sets(one.inner.module, pieces))
        for name, parameter in one.inner.module.named_parameters():
            slot = getattr(parameter, "ds_tensor", parameter).detach()
            whole = masters(0)[name].bfloat16()
            if stage == 3:
                whole = _padded({name: whole}, num_ranks, rank).bfloat16()
            assert torch.equal(slot, whole), "what the model computes with is made of the masters"
        tensors = engine_state.kept(one.inner, one.adam, one.frozen)
        steps = engine_state.steps_of(one.inner, one.adam)
        by_name.write(tmp_path / "went", rank, tensors, steps)
    assert_equal(everything(pieces), everything(Pieces(tmp_path / "went", "model.path")))


@pytest.mark.parametrize(("stage", "num_ranks"), LAYOUTS)
def test_what_was_saved_before_the_first_step_leaves_no_moments(
    monkeypatch, tmp_path, stage, num_ranks
):
    pieces = save(monkeypatch, tmp_path, 1, 2, moments=False)
    one = engine(monkeypatch, stage, num_ranks, 0, seed=7)
    engine_state.put_back(one.inner, one.adam, pieces)
    assert all(not value.any() for state in one.adam.state.values() for value in state.values())


def test_another_model_is_refused_before_anything_of_it_is_loaded(monkeypatch, tmp_path):
    pieces = save(monkeypatch, tmp_path, 1, 2)
    one = engine(monkeypatch, 0, 1, 0, seed=7)
    one.inner.module.c = nn.Parameter(torch.zeros(8))
    before = one.inner.module.a.detach().clone()
    with pytest.raises(CheckpointError, match=r"c has 7 elements in it\); set model\.path back"):
        engine_state.put_back(one.inner, one.adam, pieces)
    assert torch.equal(one.inner.module.a, before)


@pytest.mark.parametrize("unstepped", ["a", "c"])
def test_a_parameter_that_was_never_stepped_leaves_the_moments_of_the_others(
    monkeypatch, tmp_path, unstepped
):
    """From stage 1 on they lie in one tensor, whose count of steps is one."""
    pieces = save(monkeypatch, tmp_path, 0, 1)
    expected = pieces.read(by_name.key_of("exp_avg", "b"), Stretch(0, 2))
    del pieces.steps[unstepped]
    one = engine(monkeypatch, 1, 1, 0, seed=7)
    engine_state.put_back(one.inner, one.adam, pieces)
    (state,) = one.adam.state.values()
    assert torch.equal(state["exp_avg"][15:17], expected)
    place = {"a": slice(0, 15), "c": slice(17, 24)}[unstepped]
    assert not state["exp_avg"][place].any()
    assert state["step"] == 4.0
