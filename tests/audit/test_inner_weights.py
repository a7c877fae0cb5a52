"""Weights that are whole, of the right shape, and not what training wrote, in the demo of 4.5 and by their numbers."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from service.audit.judging import audit
from service.audit.odd_norms import odd_norms
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.judgement import Finding, Severity
from tests.builders import Tensors, add_token, copy_demo, edited_json, edited_tensors, token_id

LOUD = (Severity.FATAL, Severity.WARNING)
MATRICES = ("llm.model.embed_tokens.weight", "llm.lm_head.weight")
LAYER = "llm.model.layers."
THOUGHT = "{{- '<think>\\n\\n</think>\\n\\n' -}}"
Change = Callable[[Tensors], None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A copy of the demo in the layout of MiniCPM-V 4.5."""
    return Path(shutil.copytree(demo_root() / "minicpmv4_5" / "base", tmp_path / "base"))


def findings(base: Path) -> list[Finding]:
    report = audit(read_checkpoint(locate(str(base)), {}))
    return [one for one in report.findings() if one.severity in LOUD]


def only(base: Path, change: Change) -> tuple[str, str, str]:
    """Change tensors, and return severity, check and message of the one finding."""
    with edited_tensors(base / "model.safetensors") as tensors:
        change(tensors)
    (found,) = findings(base)
    return found.severity.value, found.check, found.message


def test_a_resampler_that_was_made_up_anew_is_refused(base: Path) -> None:
    torch.manual_seed(0)

    def change(tensors: Tensors) -> None:
        for name in [one for one in tensors if one.startswith("resampler.")]:
            shape, is_norm = tensors[name].shape, ".ln_" in name and name.endswith("weight")
            tensors[name] = 0.02 * torch.randn(shape) if len(shape) > 1 else torch.full(shape, float(is_norm))

    severity, check, message = only(base, change)
    assert (severity, check, message.split(" was never")[0]) == ("fatal", "inner_weights", "resampler")


def test_a_part_that_was_made_up_by_a_uniform_draw_is_refused(base: Path) -> None:
    torch.manual_seed(0)

    def change(tensors: Tensors) -> None:
        for name in [one for one in tensors if one.startswith("vpm.encoder.layers.2.")]:
            shape, is_norm = tensors[name].shape, "norm" in name and name.endswith("weight")
            uniform = (2 * torch.rand(shape) - 1) * shape[-1] ** -0.5
            tensors[name] = uniform if len(shape) > 1 else torch.full(shape, float(is_norm))

    severity, check, message = only(base, change)
    assert (severity, check, message.split(" was never")[0]) == ("fatal", "inner_weights", "vpm.encoder.layers.2")


def test_norms_less_one_are_refused_where_the_weight_multiplies(base: Path) -> None:
    def change(tensors: Tensors) -> None:
        for name in [one for one in tensors if one.startswith("llm.") and one.endswith("layernorm.weight")]:
            tensors[name] -= 1

    severity, check, message = only(base, change)
    assert (severity, check) == ("fatal", "inner_weights")
    assert "8 of 9 norms turn the sign" in message


def test_norms_of_queries_and_keys_less_one_are_refused_too(base: Path) -> None:
    def change(tensors: Tensors) -> None:
        for name in [one for one in tensors if one.endswith(("q_norm.weight", "k_norm.weight"))]:
            tensors[name] -= 1

    assert "8 of 8 norms turn the sign" in only(base, change)[2]


def test_norms_with_small_weights_are_sound(base: Path) -> None:
    with edited_tensors(base / "model.safetensors") as tensors:
        for name in [one for one in tensors if one.startswith("llm.") and one.endswith("layernorm.weight")]:
            tensors[name] = 0.04 * tensors[name]
    assert findings(base) == []


def test_patches_in_another_order_are_refused(base: Path) -> None:
    def change(tensors: Tensors) -> None:
        kernel = tensors["vpm.embeddings.patch_embedding.weight"]
        tensors["vpm.embeddings.patch_embedding.weight"] = kernel.permute(1, 2, 3, 0).reshape(kernel.shape)

    severity, check, message = only(base, change)
    assert (severity, check) == ("fatal", "inner_weights")
    assert "(channels, height, width, out)" in message


def test_patches_in_another_order_are_told_beside_the_origin_too(base: Path) -> None:
    with edited_tensors(base / "model.safetensors") as tensors:
        kernel = tensors["vpm.embeddings.patch_embedding.weight"]
        tensors["vpm.embeddings.patch_embedding.weight"] = kernel.permute(0, 2, 3, 1).reshape(kernel.shape)
    origin = locate(str(demo_root() / "minicpmv4_5" / "base"))
    report = audit(read_checkpoint(locate(str(base)), {}, origin=origin))
    assert "inner_weights" in {one.check for one in report.findings() if one.severity is Severity.FATAL}


def test_an_untied_model_with_one_matrix_twice_is_refused(base: Path) -> None:
    severity, check, message = only(base, lambda tensors: tensors.update({MATRICES[1]: tensors[MATRICES[0]].clone()}))
    assert (severity, check) == ("fatal", "tied_embeddings")
    assert "every official MiniCPM-V 4.5 has two" in message


def test_a_layer_that_was_added_and_changes_nothing_is_only_warned_of(base: Path) -> None:
    def change(tensors: Tensors) -> None:
        for name in [one for one in tensors if one.startswith(f"{LAYER}3.")]:
            is_last = name.endswith(("o_proj.weight", "down_proj.weight"))
            tensors[name.replace("layers.3.", "layers.4.")] = (
                torch.zeros_like(tensors[name]) if is_last else tensors[name].clone()
            )

    with edited_json(base / "config.json") as config:
        config["num_hidden_layers"] = 5
    assert only(base, change)[:2] == ("warning", "finite_weights")


def test_many_layers_repeated_in_a_row_are_only_warned_of(base: Path) -> None:
    def change(tensors: Tensors) -> None:
        for name in [one for one in tensors if one.startswith(LAYER)]:
            number = int(name.removeprefix(LAYER).split(".")[0])
            tensors[name.replace(f"layers.{number}.", f"layers.{number + 4}.")] = tensors[name].clone()

    with edited_json(base / "config.json") as config:
        config["num_hidden_layers"] = 8
    assert only(base, change)[:2] == ("warning", "inner_weights")


def test_a_merger_that_the_mode_leaves_out_need_not_be_trained(tmp_path: Path) -> None:
    base = copy_demo(tmp_path).base
    assert findings(base) == []
    for name in ("config.json", "processor_config.json"):
        path = base / name
        path.write_text(path.read_text(encoding="utf-8").replace('"4x"', '"16x"'), encoding="utf-8")
    assert ["vit_merger was never trained" in one.message for one in findings(base)] == [True]


def with_token(base: Path, rows: Callable[[torch.Tensor], torch.Tensor]) -> int:
    """Let the template write a token of its own in place of the empty thought."""
    row = add_token(base, "<|no_think|>")
    with edited_json(base / "tokenizer_config.json") as config:
        assert THOUGHT in config["chat_template"]
        config["chat_template"] = config["chat_template"].replace(THOUGHT, "{{- '<|no_think|>' -}}")
        config["added_tokens_decoder"][str(row)] = {"content": "<|no_think|>", "special": True}
    with edited_json(base / "config.json") as config:
        config["vocab_size"] = row + 1
    think = token_id(base, "<think>")
    with edited_tensors(base / "model.safetensors") as tensors:
        for name in MATRICES:
            new = rows(tensors[name][think].float())
            tensors[name] = torch.cat([tensors[name], new[None].to(tensors[name])])
    return row


def test_a_token_that_switching_thoughts_off_writes_needs_trained_rows(base: Path) -> None:
    torch.manual_seed(0)
    row = with_token(base, lambda think: 0.02 * torch.randn(think.shape))
    (found,) = findings(base)
    assert (found.severity, found.check) == (Severity.FATAL, "trained_rows")
    assert f"<|no_think|> (id {row}) stands in every" in found.message


def test_a_token_whose_rows_began_as_those_of_another_and_were_trained_is_sound(base: Path) -> None:
    torch.manual_seed(0)
    with_token(base, lambda think: think + 0.1 * think.std() * torch.randn(think.shape))
    assert findings(base) == []


def test_a_model_that_is_random_throughout_has_no_untrained_part(base: Path) -> None:
    torch.manual_seed(0)
    with edited_tensors(base / "model.safetensors") as tensors:
        for name in [one for one in tensors if one not in MATRICES]:
            is_norm = name.endswith("weight") and ("norm" in name or ".ln_" in name)
            shape = tuple(tensors[name].shape)
            tensors[name] = 0.02 * torch.randn(shape) if len(shape) > 1 else torch.full(shape, float(is_norm))
    assert findings(base) == []


@pytest.mark.parametrize(("model_type", "is_judged"), [("qwen3_5_text", True), ("gemma2", False)])
def test_norms_that_are_all_large_are_judged_only_where_training_keeps_them_small(
    model_type: str, is_judged: bool, base: Path
) -> None:
    facts = read_checkpoint(locate(str(base)), {}).base
    vectors = {
        name: replace(one, fifth=1.5, up_to={-1: 0.0, 0: 0.0, 1: 0.0}) for name, one in facts.inner.vectors.items()
    }
    large = replace(
        facts,
        model_type=model_type,
        documents={"config.json": {"model_type": model_type}},
        inner=replace(facts.inner, vectors=vectors),
    )
    assert bool(odd_norms(large)) == is_judged


def test_a_matrix_alone_shows_nothing_where_training_was_so_short_that_many_still_look_drawn(base: Path) -> None:
    torch.manual_seed(0)
    first = f"{LAYER}0.self_attn.v_proj.weight"
    with edited_tensors(base / "model.safetensors") as tensors:
        tensors[first] = 0.02 * torch.randn(tensors[first].shape)
    assert [one.check for one in findings(base)] == ["inner_weights"]
    with edited_tensors(base / "model.safetensors") as tensors:
        for name in [
            one for one in tensors if one.startswith(LAYER) and one.endswith(("gate_proj.weight", "up_proj.weight"))
        ]:
            tensors[name] = 0.0255 * torch.randn(tensors[name].shape)
    assert findings(base) == []
