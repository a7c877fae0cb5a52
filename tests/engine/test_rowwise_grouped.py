"""Adapters whose rows cannot share a batch are recognised as such, and so is everything that PEFT may change."""

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoKrConfig, OFTConfig, VeraConfig
from peft.tuners.lora import LoraLayer
from rowcases import assert_rows, build, load_base, lora, trained
from torch import nn

from service import engine
from service.engine.adapters import mount, share
from service.engine.rowwise import peft_layers, row_wise
from service.engine.rowwise.tracing import trace

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
    "replicated": (lora(layer_replication=[(0, 2), (1, 2)]), r"layers: its modules are 0, 1, 2 \(3\)"),
    "mica": (lora(init_lora_weights="mica"), r"is of the variant \S+MiCALinearVariant"),
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


def test_what_an_adapter_does_to_the_vision_tower_does_not_matter(tmp_path: Path) -> None:
    base = load_base("demo", tmp_path)
    target = r".*vision_tower.*(q|k|v)_proj"
    configs = {
        "loha": LoHaConfig(target_modules=target, r=2),
        "ia3": IA3Config(target_modules=target, feedforward_modules=[]),
        "merger": lora(target_modules=r".*language_model.*o_proj", modules_to_save=["merger"]),
    }
    case = build(base, {name: trained(base, config, tmp_path / name) for name, config in configs.items()})
    assert case.tree.grouped == {}
    for num_tokens in (1, 3):
        assert_rows(case, ("ia3", "merger", None, "loha"), num_tokens)


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def hooked(view: Any) -> None:
    view.model.layers[1].register_forward_hook(lambda _module, _x, y: y)


def patched(view: Any) -> None:
    view.model.norm.forward = lambda x: x


def replaced(view: Any) -> None:
    view.model.layers[0].mlp.up_proj.__class__ = Doubled


def scaled(view: Any) -> None:
    view.model.norm.weight = nn.Parameter(2 * view.model.norm.weight.detach())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (hooked, r"model\.layers\.1: the adapter hooks into \S+LlamaDecoderLayer"),
        (patched, r"model\.norm: the adapter replaces the forward of \S+LlamaRMSNorm"),
        (replaced, r"up_proj: it is a \S+Doubled, the base's is a torch\.nn\S+Linear"),
        (scaled, r"model\.norm: the adapter has its own weight of \S+LlamaRMSNorm"),
    ],
)
def test_whatever_else_was_done_to_a_view_is_noticed(change: Any, reason: str, llama_base: Any) -> None:
    view = share(llama_base)
    change(view)
    grouped = row_wise(llama_base, {"odd": view}).grouped
    assert re.search(reason, grouped["odd"]), grouped


def test_a_hook_on_a_layer_of_peft_is_noticed(llama_base: Any, tmp_path: Path) -> None:
    view = mount(llama_base, trained(llama_base, lora(), tmp_path / "plain")).model
    view.model.layers[0].mlp.up_proj.register_forward_hook(lambda _module, _x, y: 2 * y)
    grouped = row_wise(llama_base, {"odd": view}).grouped
    assert re.search(r"up_proj: the adapter hooks into peft\S+Linear", grouped["odd"]), grouped


def test_two_files_of_the_engine_import_peft() -> None:
    files = Path(engine.__file__).parent.rglob("*.py")
    found = {one.name for one in files if re.search(r"^\s*(from|import) peft", one.read_text(), re.MULTILINE)}
    assert found == {"adapters.py", "peft_layers.py"}


def test_a_layer_that_a_step_does_not_call_cannot_differ_by_row(llama_base: Any, tmp_path: Path) -> None:
    """Fused projections read the weight, so that no row could have its own."""
    base = share(llama_base)
    up = base.model.layers[0].mlp.up_proj
    base.model.layers[0].mlp.forward = lambda x: x @ up.weight.T @ up.weight
    case = build(base, {"plain": trained(llama_base, lora(target_modules=["up_proj"]), tmp_path / "plain")})
    assert re.search(r"layers\.0\.mlp\.up_proj: \S+ is not called with the rows", case.tree.grouped["plain"])


def test_a_model_that_cannot_run_text_alone_has_only_grouped_adapters(llama_base: Any) -> None:
    base = share(llama_base)
    base.forward = lambda **_inputs: 1 // 0
    tree = row_wise(base, {"a": share(base)})
    assert tree.batched == {}
    assert tree.grouped == {
        "a": "the model cannot run a step of text alone: ZeroDivisionError: integer division or modulo by zero"
    }


def test_an_adapter_with_numbers_that_are_not_finite_shares_no_batch(llama_base: Any, tmp_path: Path) -> None:
    view = mount(llama_base, trained(llama_base, lora(), tmp_path / "wild")).model
    view.model.layers[0].mlp.up_proj.lora_B["default"].weight.data[3, 1] = float("inf")
    grouped = row_wise(llama_base, {"wild": view}).grouped
    assert re.search(r"up_proj: peft\S+Linear holds numbers that are not finite", grouped["wild"]), grouped


class Writing(nn.Module):
    """Reads one tensor twice, and writes into it in between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.first, self.same, self.late = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, input_ids: torch.Tensor, **_more: Any) -> None:
        x = self.embed(input_ids)
        self.first(x)
        self.same(x)
        self.late(x.add_(1))


def test_layers_read_the_same_numbers_only_if_nobody_wrote_in_between() -> None:
    numbers = trace(Writing())
    assert list(numbers) == ["embed", "first", "same", "late"]
    assert numbers["first"] == numbers["same"]
    assert len(set(numbers.values())) == 3


class Quantised(nn.Linear):
    """Weights of eight bits, as quantisation libraries keep them."""

    def __init__(self, one: nn.Linear) -> None:
        super().__init__(one.in_features, one.out_features, bias=False)
        self.scale = float(one.weight.detach().abs().max()) / 127
        self.weight = nn.Parameter((one.weight.detach() / self.scale).round().to(torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale)


def test_a_base_of_eight_bits_is_called_as_it_is(llama_base: Any, tmp_path: Path) -> None:
    base = share(llama_base)
    for layer in base.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, one in list(block.named_children()):
                if isinstance(one, nn.Linear):
                    setattr(block, name, Quantised(one))
    folders = {name: trained(base, lora(r=rank), tmp_path / name) for name, rank in (("a", 2), ("b", 5))}
    case = build(base, folders)
    assert case.tree.grouped == {}
    for num_tokens in (1, 3):
        assert_rows(case, ("b", None, "a", "b"), num_tokens)


NAMED = (
    *peft_layers.LINEAR,
    peft_layers.EMBEDDING,
    peft_layers.SAVED,
    peft_layers.TOKENS_WRAPPER,
    peft_layers.TOKENS,
    *(name for names in peft_layers.DORA.values() for name in names),
)


@pytest.mark.parametrize("name", NAMED)
def test_the_classes_of_peft_that_are_read_have_these_names(name: str) -> None:
    """Read as text: some import libraries that are not installed."""
    module, _, kind = name.rpartition(".")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    assert kind in {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def test_the_parts_of_a_lora_layer_are_the_ones_that_are_read() -> None:
    """A new kind of tensor in a layer would be something that nobody applies."""
    assert set(LoraLayer.adapter_layer_names) == {
        "lora_A",
        "lora_B",
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",
    }
    assert set(LoraLayer.other_param_names) == {
        *("r", "lora_alpha", "scaling", "lora_dropout", "use_dora", "use_rslora", "lora_bias"),
    }
