"""Every row of a mixed batch answers as its adapter's own view, which is PEFT's own forward, does alone."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rowcases import (
    BATCHED,
    CLOSE,
    LINEAR,
    Case,
    assert_rows,
    build,
    difference,
    load_base,
    logits_of,
    lora,
    number,
    questions,
    trained,
)
from transformers import GPT2Config, GPT2LMHeadModel

from service.engine.adapters import mount
from service.engine.engine import Engine
from service.engine.rowwise import Routing, row_wise
from service.engine.rowwise.changes import Gains


@pytest.fixture(scope="module", params=["demo", "causal", "causal (llama)", "biased llama"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("rows")
    base = load_base(request.param, folder / "base")
    return build(base, {name: trained(base, config, folder / name) for name, config in BATCHED.items()})


def test_every_kind_is_batched(case: Case) -> None:
    assert case.tree.grouped == {}
    assert list(case.tree.batched.values()) == list(range(1, len(BATCHED) + 1))


@pytest.mark.parametrize("num_tokens", [1, 5])
@pytest.mark.parametrize("name", BATCHED)
def test_a_row_among_others_answers_as_its_own_view(case: Case, name: str, num_tokens: int) -> None:
    kinds = list(BATCHED)
    other = kinds[(kinds.index(name) + 7) % len(kinds)]
    assert_rows(case, (None, name, other, name, None, "plain"), num_tokens)
    assert_rows(case, (name,), num_tokens)
    assert_rows(case, (name, name), num_tokens)


def test_every_adapter_changes_something(case: Case) -> None:
    ids = questions(1, 5)
    for name, view in case.views.items():
        assert not torch.equal(logits_of(view, ids), logits_of(case.base, ids)), name


def test_all_orders_of_a_batch_give_the_same_answers(case: Case) -> None:
    for names in itertools.permutations((None, "plain", "dora_everywhere", "saved_both")):
        assert_rows(case, names, 1)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from([None, *BATCHED]), min_size=1, max_size=9), num_tokens=st.sampled_from([1, 1, 3]))
def test_any_rows_in_any_order_answer_as_their_own_views(case: Case, names: list[str | None], num_tokens: int) -> None:
    assert_rows(case, tuple(names), num_tokens)


def test_rows_go_on_from_what_was_computed_before_them(case: Case) -> None:
    names = ("saved_both", None, "tokens_both", "plain", "dora")
    ids = questions(len(names), 9)
    case.tree.routing.set(number(case, *names))
    with torch.inference_mode():
        cache = case.tree.model(input_ids=ids[:, :6], use_cache=True).past_key_values
        steps = [case.tree.model(input_ids=ids[:, at : at + 1], past_key_values=cache).logits for at in range(6, 9)]
    mixed = torch.cat(steps, 1)
    for row, name in enumerate(names):
        alone = logits_of(case.views[name] if name else case.base, ids[row : row + 1])[0, 6:]
        assert difference(mixed[row], alone) <= CLOSE, name


def test_the_tree_shares_the_base_and_keeps_what_is_read_from_its_modules(case: Case) -> None:
    tree = case.tree.model
    ours = {one.data_ptr() for one in case.base.parameters()}
    assert {one.data_ptr() for one in tree.parameters()} == ours
    for get in ("get_input_embeddings", "get_output_embeddings"):
        module, original = getattr(tree, get)(), getattr(case.base, get)()
        assert "rowwise" in type(module).__module__
        assert module.weight is original.weight
    assert tree.get_input_embeddings().num_embeddings == case.base.get_input_embeddings().num_embeddings
    assert tree.get_output_embeddings().in_features == case.base.get_output_embeddings().in_features
    assert not any("rowwise" in type(one).__module__ for one in case.base.modules())


@pytest.fixture
def without_modules_to_save() -> Callable[[Path], Path]:
    """The popular fix for servers that reject `modules_to_save`: PEFT then writes over the base's tensors."""

    def strip(folder: Path) -> Path:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "modules_to_save": None}))
        return folder

    return strip


def test_a_tree_that_was_never_routed_is_the_base(case: Case) -> None:
    tree = row_wise(case.base, {"plain": case.views["plain"]})
    assert torch.equal(logits_of(tree.model, questions(3, 4)), logits_of(case.base, questions(3, 4)))


def test_a_batch_of_another_size_than_the_routing_is_an_error(case: Case) -> None:
    case.tree.routing.set(number(case, "plain", "plain", "plain"))
    with pytest.raises(ValueError, match="3 rows have an adapter each"):
        logits_of(case.tree.model, questions(2, 1))
    with pytest.raises(ValueError, match="numbered from 1 to"):
        case.tree.routing.set([len(BATCHED) + 1])


def test_computing_for_more_adapters_than_the_rows_have_changes_no_answer(case: Case) -> None:
    """So one CUDA graph can serve any rows: nothing but the numbers in its tensors depends on them."""
    every, ids, names = set(case.tree.batched.values()), questions(3, 1), (None, "plain", "dora")
    case.tree.routing.set(number(case, *names), among=every)
    mix, mixed = case.tree.routing.mix, logits_of(case.tree.model, ids)
    for row, name in enumerate(names):
        alone = logits_of(case.views[name] if name else case.base, ids[row : row + 1])[0]
        assert difference(mixed[row], alone) <= CLOSE
    case.tree.routing.set(number(case, "plain", None, None), among=every)
    assert case.tree.routing.mix is mix


def test_a_change_of_rows_is_seen_though_the_numbers_of_adapters_stay(case: Case) -> None:
    for names in (("plain", "ranks"), ("ranks", "plain"), ("plain", "ranks", None), ("ranks", None, "plain")):
        assert_rows(case, names, 1)


def test_one_adapter_s_infinities_stay_in_its_rows(tmp_path: Path) -> None:
    base = load_base("biased llama", tmp_path / "base")
    views = {name: mount(base, trained(base, lora(), tmp_path / name)).model for name in ("wild", "tame")}
    for name, one in views["wild"].named_parameters():
        if "lora_A" in name:
            one.data.fill_(3e38)
    case = Case(base, views, row_wise(base, views))
    ids = questions(3, 2)
    case.tree.routing.set(number(case, "wild", None, "tame"))
    mixed = logits_of(case.tree.model, ids)
    assert not mixed[0].isfinite().all()
    assert torch.equal(mixed[1], logits_of(base, ids)[1])
    assert difference(mixed[2], logits_of(case.views["tame"], ids[2:])[0]) <= CLOSE


def test_what_layers_share_is_computed_anew_when_rows_or_numbers_change(case: Case) -> None:
    tree = case.tree
    block = next(one for one in tree.model.get_decoder().layers if hasattr(one, "mlp")).mlp
    x = torch.randn(2, 1, block.gate_proj.in_features)
    with torch.inference_mode():
        tree.routing.set(number(case, "all_linear", None))
        block.gate_proj(x)
        tree.routing.set(number(case, None, "all_linear"))
        assert torch.equal(block.up_proj(x), block.up_proj(x.clone()))
        block.gate_proj(x)
        x *= 2
        assert torch.equal(block.gate_proj(x), block.gate_proj(x.clone()))


def test_dora_does_not_touch_the_numbers_of_other_rows() -> None:
    routing = Routing(torch.device("cpu"), 2)
    gains = Gains({1: torch.ones(3), 2: torch.zeros(3)}, None, 2)
    y = torch.full((3, 1, 3), float("inf"))
    routing.set([0, 1, 0])
    assert routing.mix is not None
    assert torch.equal(gains.apply(y, routing.mix), y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_in_16_bits_differ_from_their_views_as_16_bits_do(dtype: torch.dtype, tmp_path: Path) -> None:
    base = load_base("biased llama", tmp_path / "base").to(dtype)
    names = ("plain", "dora_bias", "saved_both", "tokens", "both", "lora_bias")
    case = build(base, {name: trained(base, BATCHED[name], tmp_path / name) for name in names})
    for num_tokens in (1, 4):
        assert_rows(case, (*names, None), num_tokens, close=2e-2 if dtype is torch.bfloat16 else 4e-3)


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_rows_of_every_family_answer_as_their_own_views(name: str, tmp_path: Path) -> None:
    base = load_base(name, tmp_path / "base")
    text = LINEAR if name.startswith("causal") else r".*(language_model|llm\.).*proj(_qkv|_z|_a|_b)?"
    configs = {
        "plain": lora(target_modules=text),
        "dora": lora(target_modules=text, use_dora=True),
        "saved": lora(target_modules=text, modules_to_save=["lm_head"]),
    }
    case = build(base, {key: trained(base, config, tmp_path / key) for key, config in configs.items()})
    assert case.tree.grouped == {}
    for num_tokens in (1, 5):
        assert_rows(case, ("plain", None, "saved", "dora", "plain"), num_tokens)


def test_layers_with_transposed_weights_have_an_adapter_for_each_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=200, n_positions=64)).eval()
    targets: dict[str, Any] = {"target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True}
    configs = {
        "plain": lora(**targets),
        "dora": lora(**targets, use_dora=True),
        "bias": lora(**targets, bias="lora_only"),
        "saved": lora(**{**targets, "target_modules": ["c_attn"]}, modules_to_save=["c_fc"]),
    }
    case = build(base, {key: trained(base, config, tmp_path / key) for key, config in configs.items()})
    assert case.tree.grouped == {}
    for num_tokens in (1, 4):
        assert_rows(case, (*configs, None), num_tokens)


def test_the_demo_s_own_adapters_share_a_batch(engine: Engine) -> None:
    views = {name: view.model for name, view in engine.loaded.adapters.items()}
    case = Case(engine.loaded.base.model, views, row_wise(engine.loaded.base.model, views))
    assert case.tree.grouped == {}
    for names in itertools.permutations(("json", "tokens", None, "official")):
        assert_rows(case, names, 1)
    assert_rows(case, ("json", "official", "tokens", None), 5)


def test_an_adapter_whose_tensors_lie_outside_modules_to_save_is_batched(
    tmp_path: Path, without_modules_to_save: Callable[[Path], Path]
) -> None:
    base = load_base("causal (llama)", tmp_path / "base")
    folder = without_modules_to_save(trained(base, BATCHED["saved_both"], tmp_path / "stripped"))
    case = build(base, {"stripped": folder, "plain": trained(base, lora(), tmp_path / "plain")})
    assert case.tree.grouped == {}
    assert_rows(case, ("stripped", None, "plain", "stripped"), 2)
