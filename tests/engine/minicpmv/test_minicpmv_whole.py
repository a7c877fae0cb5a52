"""A folder in the official layout goes the whole way: audit, an adapter of the official script, merging, an answer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import tiny
import torch
from golden_vectors import VERSIONS
from jobs import answer, ask, greedy
from PIL import Image

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import Verdict
from service.engine.engine import Engine, Limits
from service.engine.families.minicpmv.loading import tensor_names
from service.engine.loading import LoadPlan, load
from service.engine.measuring import measure
from service.engine.merging import merge_folders

PICTURE = Image.new("RGB", (300, 120), "green")


def trained(base: Path, plan: LoadPlan, folder: Path) -> Path:
    """An adapter as `finetune_lora.sh` leaves it, `auto_mapping` of the remote class included."""
    config = peft.LoraConfig(
        r=4,
        target_modules=r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
        modules_to_save=["embed_tokens", "resampler", "vpm"],
        base_model_name_or_path=str(base),
    )
    adapted = peft.get_peft_model(load(plan).base.model, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, one in adapted.named_parameters():
            if "lora_B" in name or ("modules_to_save" in name and one.dim() > 1):
                one.add_(torch.randn(one.shape, generator=generator) * 0.02)
    adapted.save_pretrained(folder)
    path = folder / "adapter_config.json"
    remote = {"base_model_class": "MiniCPMV", "parent_library": "transformers_modules.v.modeling_minicpmv"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_mapping": remote, "task_type": None}))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_a_base_with_an_official_adapter_is_consistent_answers_and_merges(
    version: str, tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    base = tiny.make(f"minicpm-v-{version}", tmp_path / "base")
    adapter = trained(base, plan_of(base), tmp_path / "adapter")
    engine = Engine(load(plan_of(base, adapters={"tuned": adapter})), Limits(8))
    facts = read_checkpoint(locate(str(base)), {"tuned": locate(str(adapter))})
    report = audit(facts, measure(engine.loaded))
    assert report.overall is Verdict.CONSISTENT, [finding.message for finding in report.findings()]
    asked = [ask("What?", PICTURE, adapter=one, sampling=greedy(8)) for one in (None, "tuned")]
    _, plain = answer(engine, asked[0])
    _, tuned = answer(engine, asked[1])
    assert plain.usage.image_tokens == tuned.usage.image_tokens > 16
    engine.stop()
    merged = tmp_path / "merged"
    merged.mkdir()
    proof = merge_folders(base, adapter, merged, "float32")
    assert proof.is_proved
    assert tensor_names(merged) == tensor_names(base)
    config = json.loads((merged / "config.json").read_text())
    given = json.loads((base / "config.json").read_text())
    assert {**config, "torch_dtype": None} == {**given, "torch_dtype": None}
    again = Engine(load(plan_of(merged)), Limits(8))
    report = audit(read_checkpoint(locate(str(merged)), {}), measure(again.loaded))
    assert report.overall is Verdict.CONSISTENT, [finding.message for finding in report.findings()]
    _, said = answer(again, asked[0])
    assert said.text == tuned.text
    again.stop()


def test_the_folders_own_code_is_left_lying(tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    folder = tiny.make("minicpm-v-2.6", tmp_path / "base")
    marker = tmp_path / "it-ran"
    for name in ("configuration_minicpm", "modeling_minicpmv", "tokenization_minicpmv_fast"):
        (folder / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
        "AutoModel": "modeling_minicpmv.MiniCPMV",
    }
    (folder / "config.json").write_text(json.dumps(config))
    for is_trusted in (False, True):
        assert load(plan_of(folder, is_code_trusted=is_trusted)).family.name == "minicpm-v-2.6"
    assert not marker.exists()
    shutil.rmtree(folder)
