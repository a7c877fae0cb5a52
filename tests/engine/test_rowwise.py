"""Every row of a mixed batch answers as its adapter's own view, which is PEFT's own forward, does alone."""

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import (
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
)
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlamaForCausalLM,
)

from service.demo import demo_root
from service.engine.adapters import mount
from service.engine.rowwise import RowWise, row_wise

CLOSE = 1e-5
IDS = [5, 9, 17]
"""Tokens with rows of their own; the questions contain them."""
LINEAR = ["q_proj", "q_b_proj", "kv_b_proj", "o_proj", "up_proj", "down_proj"]
EMBED, HEAD = "embed_tokens", "lm_head"


def lora(**values: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **values})


BATCHED: dict[str, Any] = {
    "plain": lora(),
    "all_linear": lora(target_modules="all-linear", r=3),
    "ranks": lora(rank_pattern={"up_proj": 7, r"layers\.0.*o_proj": 2}, alpha_pattern={"down_proj": 9}),
    "rslora": lora(use_rslora=True, r=5),
    "dora": lora(use_dora=True),
    "dora_everywhere": lora(use_dora=True, target_modules=[*LINEAR, EMBED, HEAD]),
    "embedding": lora(target_modules=[*LINEAR, EMBED]),
    "only_embedding": lora(target_modules=[EMBED], r=2),
    "head": lora(target_modules=[HEAD], r=2),
    "both": lora(target_modules=[*LINEAR, EMBED, HEAD]),
    "both_tied": lora(target_modules=[*LINEAR, EMBED, HEAD], ensure_weight_tying=True),
    "saved_embedding": lora(modules_to_save=[EMBED]),
    "saved_head": lora(modules_to_save=[HEAD]),
    "saved_both": lora(modules_to_save=[EMBED, HEAD]),
    "saved_tied": lora(modules_to_save=[EMBED], ensure_weight_tying=True),
    "saved_linear": lora(target_modules=["o_proj"], modules_to_save=["down_proj"]),
    "tokens": lora(trainable_token_indices=IDS),
    "tokens_tied": lora(trainable_token_indices=IDS[:2], ensure_weight_tying=True),
    "tokens_both": lora(use_dora=True, trainable_token_indices={EMBED: IDS[1:], HEAD: IDS[1:]}),
    "tokens_apart": lora(trainable_token_indices={EMBED: IDS[1:], HEAD: IDS[:1]}),
    "only_tokens": TrainableTokensConfig(token_indices=IDS, target_modules=[EMBED], task_type="CAUSAL_LM"),
    "bias_all": lora(bias="all"),
    "bias_lora_only": lora(bias="lora_only"),
    "lora_bias": lora(lora_bias=True),
    "dora_bias": lora(use_dora=True, bias="all"),
    "mixture": lora(
        use_dora=True, use_rslora=True, target_modules=[*LINEAR, EMBED], modules_to_save=[HEAD], bias="all"
    ),
}


@dataclass
class Case:
    base: Any
    views: Mapping[str, Any]
    tree: RowWise


def trained(base: Any, config: Any, folder: Path) -> Path:
    """Save an adapter whose every trainable number was moved."""
    torch.manual_seed(len(folder.name))
    model = get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.requires_grad:
                scale = 0.1 * float(one.std()) if "original" in name or "lora_" not in name else 0.1
                one += (scale + 0.01) * torch.randn_like(one)
    model.save_pretrained(folder)
    return folder


def build(base: Any, folders: Mapping[str, Path]) -> Case:
    views = {name: mount(base, folder).model for name, folder in folders.items()}
    return Case(base, views, row_wise(base, views))


def biased_llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        **tiny.TEXT, vocab_size=200, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, bos_token_id=None
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if name.endswith("bias"):
                one.normal_()
    return model


def load_base(name: str, folder: Path) -> Any:
    if name == "biased llama":
        return biased_llama()
    if name == "demo":
        return AutoModelForImageTextToText.from_pretrained(demo_root() / "base", dtype=torch.float32).eval()
    auto = AutoModelForCausalLM if name.startswith("causal") else AutoModelForImageTextToText
    return auto.from_pretrained(tiny.make(name, folder)).eval()


@pytest.fixture(scope="module", params=["demo", "causal", "causal (llama)", "biased llama"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("rows")
    base = load_base(request.param, folder / "base")
    return build(base, {name: trained(base, config, folder / name) for name, config in BATCHED.items()})


def questions(num_rows: int, num_tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_rows * 100 + num_tokens)
    ids = torch.randint(20, 150, (num_rows, num_tokens), generator=generator)
    return torch.where(torch.rand(ids.shape, generator=generator) < 0.4, torch.tensor(IDS)[ids % len(IDS)], ids)


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, use_cache=True).logits
    return logits


def assert_rows(case: Case, names: tuple[str | None, ...], num_tokens: int) -> None:
    """Run a batch in which each row has the named adapter, and compare each row with its view alone."""
    ids = questions(len(names), num_tokens)
    case.tree.routing.set([case.tree.batched[name] if name else 0 for name in names])
    mixed = logits_of(case.tree.model, ids)
    plain = logits_of(case.base, ids)
    for row, name in enumerate(names):
        if name is None:
            assert torch.equal(mixed[row], plain[row]), (names, row)
            continue
        alone = logits_of(case.views[name], ids[row : row + 1])[0]
        difference = float((mixed[row] - alone).abs().max() / alone.abs().max())
        assert difference <= CLOSE, (name, difference)


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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from([None, *BATCHED]), min_size=1, max_size=9), num_tokens=st.sampled_from([1, 1, 3]))
def test_any_rows_in_any_order_answer_as_their_own_views(case: Case, names: list[str | None], num_tokens: int) -> None:
    assert_rows(case, tuple(names), num_tokens)


def test_rows_go_on_from_what_their_own_views_prefilled(case: Case) -> None:
    """What the engine does: a prompt on its own view, then steps with everyone else."""
    names = ("saved_both", None, "tokens_both", "plain", "dora")
    prompts, answers = questions(len(names), 6), questions(len(names), 3)
    alone = []
    for row, name in enumerate(names):
        view = case.views[name] if name else case.base
        alone.append(logits_of(view, torch.cat([prompts, answers], 1)[row : row + 1])[0, 6:])
    case.tree.routing.set([case.tree.batched[name] if name else 0 for name in names])
    with torch.inference_mode():
        cache = case.tree.model(input_ids=prompts, use_cache=True).past_key_values
        steps = [
            case.tree.model(input_ids=answers[:, step : step + 1], past_key_values=cache).logits for step in range(3)
        ]
    mixed = torch.cat(steps, 1)
    for row, one in enumerate(alone):
        assert float((mixed[row] - one).abs().max() / one.abs().max()) <= CLOSE, names[row]


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


def test_a_tree_that_was_never_routed_is_the_base(case: Case) -> None:
    tree = row_wise(case.base, {"plain": case.views["plain"]})
    assert torch.equal(logits_of(tree.model, questions(3, 4)), logits_of(case.base, questions(3, 4)))


def test_a_batch_of_another_size_than_the_routing_is_an_error(case: Case) -> None:
    case.tree.routing.set([case.tree.batched["plain"]] * 3)
    with pytest.raises(ValueError, match="3 rows have an adapter each"):
        logits_of(case.tree.model, questions(2, 1))


def test_computing_for_more_adapters_than_the_rows_have_changes_no_answer(case: Case) -> None:
    """So one CUDA graph can serve any rows: nothing but the numbers in its tensors depends on them."""
    every, ids = set(case.tree.batched.values()), questions(3, 1)
    case.tree.routing.set([0, case.tree.batched["plain"], case.tree.batched["dora"]], among=every)
    mix, mixed = case.tree.routing.mix, logits_of(case.tree.model, ids)
    for row, model in enumerate((case.base, case.views["plain"], case.views["dora"])):
        alone = logits_of(model, ids[row : row + 1])[0]
        assert float((mixed[row] - alone).abs().max() / alone.abs().max()) <= CLOSE
    case.tree.routing.set([case.tree.batched["plain"], 0, 0], among=every)
    assert case.tree.routing.mix is mix


GROUPED: dict[str, tuple[Any, str]] = {
    "ia3": (IA3Config(target_modules=["o_proj"], feedforward_modules=[]), r"o_proj: peft\.tuners\.ia3.*is not LoRA"),
    "loha": (LoHaConfig(target_modules=["o_proj"]), r"o_proj: peft\.tuners\.loha\S+ is not LoRA"),
    "lokr": (LoKrConfig(target_modules=["o_proj"]), r"o_proj: peft\.tuners\.lokr\S+ is not LoRA"),
    "oft": (OFTConfig(target_modules=["o_proj"], r=0, oft_block_size=4), r"o_proj: peft\.tuners\.oft\S+ is not LoRA"),
    "vera": (VeraConfig(target_modules=["o_proj"], r=4), r"o_proj: peft\.tuners\.vera\S+ is not LoRA"),
    "alora": (lora(alora_invocation_tokens=[5]), r"proj: peft\.tuners\.lora\S+ is of the variant \S+ALora"),
    "saved_norm": (
        lora(modules_to_save=["input_layernorm"]),
        r"input_layernorm: peft\S+ModulesToSaveWrapper is around \S+RMSNorm, which is neither a linear layer nor",
    ),
    "saved_block": (lora(target_modules=["o_proj"], modules_to_save=["mlp"]), r"mlp: peft\S+ModulesToSaveWrapper"),
    "parameters": (
        lora(target_modules=["o_proj"], target_parameters=["up_proj.weight"]),
        r"up_proj: peft\.tuners\.lora\.layer\.ParamWrapper is not LoRA",
    ),
    "split": (lora(init_lora_weights="pissa"), r"proj: the adapter has its own weight below its factors"),
}


@pytest.fixture(scope="module")
def llama_base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_base("causal (llama)", tmp_path_factory.mktemp("llama") / "base")


@pytest.mark.parametrize("name", GROUPED)
def test_what_is_not_recognised_is_grouped_with_the_module_and_the_class(
    name: str, llama_base: Any, tmp_path: Path
) -> None:
    config, reason = GROUPED[name]
    folders = {
        "odd": trained(llama_base, config, tmp_path / name),
        "plain": trained(llama_base, lora(), tmp_path / "p"),
    }
    case = build(llama_base, folders)
    assert list(case.tree.batched) == ["plain"]
    assert list(case.tree.grouped) == ["odd"]

    assert re.search(reason, case.tree.grouped["odd"]), case.tree.grouped
    assert_rows(case, (None, "plain"), 2)
