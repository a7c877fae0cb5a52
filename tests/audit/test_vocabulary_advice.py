"""What is advised where the vocabulary's matrices do not fit: the rows that are missing, and never padding."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from service.audit.judging import audit
from service.domain.judgement import Finding, Severity
from tests.builders import EMBEDDING, HEAD, PREFIX, Folders, add_token, copy_demo, edited_json, edited_tensors


def fatal(folders: Folders, check: str, *, with_adapter: bool = False) -> Finding:
    report = audit(folders.facts(with_adapter=with_adapter))
    return next(one for one in report.findings() if one.check == check and one.severity is Severity.FATAL)


def test_a_shortened_head_is_to_be_copied_whole_and_the_vocabulary_size_stays(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        rows = len(tensors[HEAD])
        tensors[HEAD] = tensors[HEAD][:700]
    for check in ("rows_cover_ids", "config_rows"):
        repair = fatal(folders, check).repair
        assert f"Copy the output matrix (lm_head) whole, with {rows} rows" in repair
        assert "Do not pad it" in repair
        assert "Write 700" not in repair
        assert "drop the added tokens" not in repair


def test_idle_factors_on_embeddings_are_fatal_where_a_token_in_use_has_no_other_training(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    added = add_token(folders.base, "<stamp>")
    hidden = load_file(folders.base_weights)[EMBEDDING].shape[1]
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][added] = tensors[name][:added].float().mean(dim=0).to(tensors[name].dtype)
        rows = len(tensors[EMBEDDING])
    module = PREFIX + EMBEDDING.removesuffix(".weight")
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[f"{module}.lora_embedding_A"] = torch.ones(8, rows)
        tensors[f"{module}.lora_embedding_B"] = torch.zeros(hidden, 8)
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].append("embed_tokens")
    finding = fatal(folders, "finite_weights", with_adapter=True)
    assert "lora_embedding_B is zero" in finding.message
    assert f"<stamp> (id {added})" in finding.message
