"""What one tensor takes and the next one gives back is measured as such; what only one of them took is not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from service.checkpoint.blocks import blocks
from service.checkpoint.comparing import compare
from service.checkpoint.neurons import match
from service.checkpoint.same_function import same_function
from service.checkpoint.weights import WeightFiles
from service.domain.facts import SameFunction
from service.domain.norms import adds_one

LAYER = "model.language_model.layers.0."
NORM, GATE, UP, DOWN = (
    LAYER + one
    for one in ("post_attention_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
)
INPUT = LAYER + "input_layernorm.weight"
QUERIES, KEYS, VALUES, OUT = (f"{LAYER}self_attn.{one}_proj.weight" for one in "qkvo")
HIDDEN, NEURONS, HEAD_SIZE = 64, 160, 16
PLAIN = {"model_type": "minicpmv", "head_dim": HEAD_SIZE}
ADDS_ONE = {"text_config": {"model_type": "qwen3_5_text", "head_dim": HEAD_SIZE}}
Tensors = dict[str, torch.Tensor]


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer() -> Tensors:
    """Two heads of keys and values, each read by two heads of queries."""
    return {
        NORM: 1 + 0.1 * noise(HIDDEN, seed=1),
        INPUT: 1 + 0.1 * noise(HIDDEN, seed=2),
        GATE: noise(NEURONS, HIDDEN, seed=3),
        UP: noise(NEURONS, HIDDEN, seed=4),
        DOWN: noise(HIDDEN, NEURONS, seed=5),
        QUERIES: noise(4 * HEAD_SIZE, HIDDEN, seed=6),
        KEYS: noise(2 * HEAD_SIZE, HIDDEN, seed=7),
        VALUES: noise(2 * HEAD_SIZE, HIDDEN, seed=8),
        OUT: noise(HIDDEN, 4 * HEAD_SIZE, seed=9),
    }


def trained(tensors: Tensors, amount: float) -> Tensors:
    return {
        name: one + amount * noise(*one.shape, seed=100 + at) * one.std()
        for at, (name, one) in enumerate(tensors.items())
    }


def measured(tensors: Tensors, to: Path, config: dict[str, object] | None = None) -> SameFunction:
    for place, one in (("old", layer()), ("new", tensors)):
        save_file({name: value.contiguous() for name, value in one.items()}, to / f"{place}.safetensors")
    before, after = (WeightFiles([to / f"{place}.safetensors"]) for place in ("old", "new"))
    compared = compare(before, after)
    return same_function(before, after, compared.pairs, compared.changed, config or PLAIN)


def scales(seed: int = 20) -> torch.Tensor:
    return torch.exp(0.7 * noise(HIDDEN, seed=seed))


@pytest.mark.parametrize("amount", [0.0, 0.05, 0.4])
def test_who_holds_the_inverse_of_a_norm_s_scale_is_told_from_who_lacks_it(amount: float, tmp_path: Path) -> None:
    tensors = trained(layer(), amount)
    tensors[NORM] = layer()[NORM] / scales()
    tensors[GATE] = tensors[GATE] * scales()
    (shift,) = measured(tensors, tmp_path).norms.values()
    assert shift.strength == pytest.approx(0.8, abs=0.3)
    gate, up = shift.readers[GATE], shift.readers[UP]
    assert (gate.share, up.share) == (pytest.approx(1, abs=0.1), pytest.approx(0, abs=0.1))
    assert gate.error < 0.1
    assert gate.undone.relative == pytest.approx(amount, abs=0.02)
    assert up.undone.relative > 0.3


def test_a_norm_that_multiplies_by_one_more_is_read_so(tmp_path: Path) -> None:
    tensors = layer()
    tensors[NORM] = (1 + tensors[NORM]) / scales() - 1
    tensors |= {name: tensors[name] * scales() for name in (GATE, UP)}
    for config, left in ((ADDS_ONE, 1e-5), (PLAIN, None)):
        found = measured(tensors, tmp_path, config).norms[NORM].readers[GATE].undone.relative
        assert found < left if left else found > 0.1


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.3])
def test_trained_tensors_share_nothing(amount: float, tmp_path: Path) -> None:
    tensors = trained(layer(), amount)
    assert measured(tensors, tmp_path) == SameFunction()


def test_nothing_is_read_where_nothing_is_suspicious(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = trained(layer(), 0.1)
    measured(tensors, tmp_path)
    before, after = (WeightFiles([tmp_path / f"{place}.safetensors"]) for place in ("old", "new"))
    compared = compare(before, after)
    monkeypatch.setattr(WeightFiles, "rows", lambda *_: pytest.fail("rows were read"))
    assert same_function(before, after, compared.pairs, compared.changed, PLAIN) == SameFunction()


@pytest.mark.parametrize("amount", [0.0, 0.05])
@pytest.mark.parametrize("is_scalar", [True, False])
def test_factors_that_the_next_matrix_gives_back_are_undone(is_scalar: bool, amount: float, tmp_path: Path) -> None:
    tensors = trained(layer(), amount)
    up, values = (torch.exp(noise(count, seed=30)) for count in (NEURONS, 2 * HEAD_SIZE))
    if is_scalar:
        up, values = torch.full_like(up, 2.0), torch.full_like(values, 0.25)
    tensors[UP], tensors[DOWN] = tensors[UP] * up[:, None], tensors[DOWN] / up
    tensors[VALUES] = tensors[VALUES] * values[:, None]
    tensors[OUT] = tensors[OUT] / values.view(2, HEAD_SIZE).repeat_interleave(2, 0).ravel()
    same = measured(tensors, tmp_path)
    assert set(same.factors) == {(UP, DOWN), (VALUES, OUT)}
    assert all(one.turn < 0.01 and one.length == pytest.approx(1, abs=0.05) for one in same.undone.values())
    assert same.undone.keys() == {UP, DOWN, VALUES, OUT}


@pytest.mark.parametrize("given_back", [1.0, 2.0])
def test_factors_that_are_not_given_back_in_full_are_not_undone(given_back: float, tmp_path: Path) -> None:
    tensors = trained(layer(), 0.05)
    tensors[UP], tensors[DOWN] = tensors[UP] * 4, tensors[DOWN] / given_back
    same = measured(tensors, tmp_path)
    assert (same.factors, same.undone) == ({}, {})


def in_order(tensors: Tensors, **orders: torch.Tensor) -> Tensors:
    named = {GATE: "gate", UP: "up"}
    moved = {name: tensors[name][orders[key]] for name, key in named.items() if key in orders}
    return tensors | moved | ({DOWN: tensors[DOWN][:, orders["down"]]} if "down" in orders else {})


def order(seed: int) -> torch.Tensor:
    return torch.randperm(NEURONS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.4])
def test_neurons_in_one_other_order_are_undone(amount: float, tmp_path: Path) -> None:
    tensors = in_order(trained(layer(), amount), gate=order(1), up=order(1), down=order(1))
    same = measured(tensors, tmp_path)
    (found,) = same.neurons
    assert (found.alone, found.share > 0.9) == ({}, True)
    assert all(same.undone[one].relative == pytest.approx(amount, abs=0.05) for one in (GATE, UP, DOWN))


def test_a_few_neurons_that_changed_places_with_one_another_are_undone(tmp_path: Path) -> None:
    swapped = torch.arange(NEURONS)
    swapped[:80] = swapped[:80].flip(0)
    same = measured(in_order(layer(), gate=swapped, up=swapped, down=swapped), tmp_path)
    assert same.neurons[0].share == pytest.approx(0.5)


def test_neurons_of_zeros_do_not_hinder(tmp_path: Path) -> None:
    old = torch.cat([torch.zeros(5, 8), noise(20, 8, seed=1)]).numpy()
    places = torch.randperm(25, generator=torch.Generator().manual_seed(2)).numpy()
    found = match(old, old[places])
    assert sorted(found) == list(range(25))
    assert np.array_equal(old[found], old[places])


@pytest.mark.parametrize(
    ("orders", "moved"),
    [
        ({"gate": 1, "up": 1}, {GATE, UP}),
        ({"down": 1}, {DOWN}),
        ({"gate": 1, "up": 2, "down": 3}, {GATE, UP, DOWN}),
    ],
)
def test_neurons_in_several_orders_are_told_by_matrix(orders: dict[str, int], moved: set[str], tmp_path: Path) -> None:
    same = measured(in_order(layer(), **{name: order(seed) for name, seed in orders.items()}), tmp_path)
    (found,) = same.neurons
    assert {name for name, turn in found.alone.items() if turn < 0.01} == moved
    assert same.undone == {}


def test_a_matrix_that_was_made_up_is_in_no_order(tmp_path: Path) -> None:
    same = measured(layer() | {GATE: noise(NEURONS, HIDDEN, seed=70)}, tmp_path)
    assert same == SameFunction()


def test_the_tower_s_norms_add_nothing() -> None:
    (found,) = blocks({"vpm.encoder.layers.0.layer_norm2.weight", "vpm.encoder.layers.0.mlp.fc1.weight"}, ADDS_ONE)
    assert (found.adds_one, found.linear, found.last) == (False, "", "")


@pytest.mark.parametrize("stem", ["model.", "", "mtp.", "model.language_model.", "language_model.model."])
def test_a_language_model_s_layers_are_known_with_and_without_other_parts(stem: str) -> None:
    names = {stem + name.removeprefix("model.language_model.") for name in (INPUT, VALUES, OUT)}
    (found,) = blocks(names, ADDS_ONE)
    assert (found.adds_one, found.head_size) == (True, HEAD_SIZE)


def test_a_text_model_s_own_type_tells_how_its_norms_multiply() -> None:
    (found,) = blocks({"model.layers.0.input_layernorm.weight"}, {"model_type": "qwen3_5_text"})
    assert found.adds_one


GEMMA = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "head_dim": HEAD_SIZE}}


def test_gemma_s_norms_multiply_by_one_more_but_for_its_tower_s() -> None:
    names = {INPUT, "vision_tower.encoder.layers.0.layer_norm1.weight"}
    assert {one.norm: one.adds_one for one in blocks(names, GEMMA)} == {one: one == INPUT for one in names}
    assert adds_one("multi_modal_projector.mm_soft_emb_norm.weight", GEMMA)


def test_a_norm_of_what_attention_adds_is_read_by_no_matrix() -> None:
    before = f"{LAYER}pre_feedforward_layernorm.weight"
    (found,) = blocks({NORM, before, GATE, UP, DOWN}, GEMMA)
    assert (found.norm, found.readers, found.last) == (before, (GATE, UP), DOWN)


@pytest.mark.parametrize(("left", "expected"), [(0.0, 0.75), (0.01, 0.0)])
def test_values_that_were_cut_count_only_if_all_others_are_the_origin_s(
    left: float, expected: float, tmp_path: Path
) -> None:
    tensors = layer()
    is_kept = torch.arange(HIDDEN) % 4 == 0
    tensors[GATE] = tensors[GATE] * is_kept * (1 + left)
    save_file(layer(), tmp_path / "old.safetensors")
    save_file(tensors, tmp_path / "new.safetensors")
    changed = compare(*(WeightFiles([tmp_path / f"{one}.safetensors"]) for one in ("old", "new"))).changed
    assert changed[GATE].cut == pytest.approx(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38, 1e-44, 0.0])
def test_values_of_any_size_are_measured(value: float, tmp_path: Path) -> None:
    tensors = layer() | {NORM: layer()[NORM] / 4}
    for name in (GATE, DOWN, VALUES):
        tensors[name].view(-1)[::3] = value
    same = measured(tensors, tmp_path)
    readers = [one for norm in same.norms.values() for one in norm.readers.values()]
    assert all(np.isfinite([one.share, one.error, one.kept, one.undone.turn]).all() for one in readers)
