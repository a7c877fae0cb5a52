"""An adapter of the official script is folded into a new base: base and plain LoRA answer as base and adapter did."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jobs import answer, ask, greedy
from PIL import Image
from safetensors import safe_open

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.cli import main
from service.commands import CONSISTENT
from service.domain.judgement import Verdict
from service.engine.engine import Engine, Limits
from service.engine.families.minicpmv.loading import tensor_names
from service.engine.loading import LoadPlan, load
from service.engine.measuring import measure
from service.engine.probing import Probe, largest_difference
from tests.audit.older_folders import VERSIONS, official
from tests.builders import edited_json, edited_tensors, shard

PICTURE = Image.new("RGB", (300, 120), "green")
EXACT = 1e-5
"""Share of the largest logit: float32 sums in another order at most, as both are computed by the same modules."""
Plan = Callable[..., LoadPlan]


def logits(base: Path, adapter: Path | None, plan_of: Plan) -> torch.Tensor:
    """Logits of the fixed question, which has a picture, through the service's own loading."""
    loaded = load(plan_of(base, adapters={"one": adapter} if adapter else {}, dtype="float32"))
    part = loaded.adapters["one"] if adapter else loaded.base
    return Probe(loaded.family, loaded.base.encoder, loaded.device).logits(part.model)


def answered(base: Path, adapter: Path, plan_of: Plan) -> str:
    engine = Engine(load(plan_of(base, adapters={"one": adapter}, dtype="float32")), Limits(8))
    try:
        report = audit(read_checkpoint(locate(str(base)), {"one": locate(str(adapter))}), measure(engine.loaded))
        assert report.overall is Verdict.CONSISTENT, [finding.message for finding in report.findings()]
        return answer(engine, ask("What?", PICTURE, adapter="one", sampling=greedy(8)))[1].text
    finally:
        engine.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_folded_base_with_the_plain_adapter_answers_as_before(version: str, tmp_path: Path, plan_of: Plan) -> None:
    folders, output = official(version, tmp_path), tmp_path / "out"
    arguments = ["repair", str(folders.adapter), "--base", str(folders.base), "--fold", "--output", str(output)]
    assert main(arguments) == CONSISTENT
    new, plain = output / "base", output / "adapter"
    before, after = logits(folders.base, folders.adapter, plan_of), logits(new, plain, plan_of)
    scale = float(before.abs().max())
    assert largest_difference(before, after) <= EXACT * scale
    assert largest_difference(before, logits(folders.base, plain, plan_of)) > 100 * EXACT * scale
    assert answered(new, plain, plan_of) == answered(folders.base, folders.adapter, plan_of)


@pytest.mark.parametrize("is_sharded", [False, True])
def test_the_new_base_keeps_every_official_file_and_the_adapter_is_plain(is_sharded: bool, tmp_path: Path) -> None:
    folders, output = official("4.5", tmp_path), tmp_path / "out"
    for name in ("modeling_minicpmv.py", "resampler.py", "README.md", "merges.txt"):
        (folders.base / name).write_text(f"# {name}\n")
    if is_sharded:
        shard(folders.base, 3)
    with edited_json(folders.base / "config.json") as config:
        config["auto_map"] = {"AutoModel": "modeling_minicpmv.MiniCPMV"}
    assert main(["repair", str(folders.adapter), "--base", str(folders.base), "--fold", "--output", str(output)]) == 0
    new, plain = output / "base", output / "adapter"
    assert {one.name for one in new.iterdir()} == {one.name for one in folders.base.iterdir()}
    for path in folders.base.iterdir():
        if path.suffix != ".safetensors":
            assert (new / path.name).read_bytes() == path.read_bytes(), path.name
    assert tensor_names(new) == tensor_names(folders.base)
    with safe_open(plain / "adapter_model.safetensors", framework="pt") as file:
        names = list(file.keys())
    assert names
    assert all(".lora_" in one for one in names)
    config = json.loads((plain / "adapter_config.json").read_text())
    assert (config["modules_to_save"], config["auto_mapping"]) == (None, None)
    written = json.loads((output / "repair.json").read_text())
    changed = {one["what"].partition(".")[0] for one in written["changes"]}
    assert changed == {"llm", "resampler", "vpm", "base_model_name_or_path"}


def test_an_input_matrix_that_the_base_also_uses_as_its_output_is_not_folded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, output = official("4.5", tmp_path), tmp_path / "out"
    with edited_tensors(folders.base / "model.safetensors") as tensors:
        del tensors["llm.lm_head.weight"]
    with edited_json(folders.base / "config.json") as config:
        config["tie_word_embeddings"] = True
    assert main(["repair", str(folders.adapter), "--base", str(folders.base), "--fold", "--output", str(output)]) == 2
    assert "llm.model.embed_tokens.weight is input and output" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_merged_folder_answers_as_base_and_adapter(version: str, tmp_path: Path, plan_of: Plan) -> None:
    folders, output = official(version, tmp_path), tmp_path / "out"
    arguments = ["merge", str(folders.base), str(folders.adapter), "--output", str(output), "--dtype", "float32"]
    assert main(arguments) == CONSISTENT
    mounted, merged = logits(folders.base, folders.adapter, plan_of), logits(output, None, plan_of)
    assert largest_difference(mounted, merged) <= 1e-4 * float(mounted.abs().max())
    assert main(["audit", str(output), "--merged-from", str(folders.base), str(folders.adapter)]) == CONSISTENT
