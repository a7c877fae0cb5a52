"""Thoughts that the tokenizer has no token for, and thoughts that a template opens over a model that has none."""

from dataclasses import replace
from pathlib import Path

import torch
from measured import measure
from torch.nn import functional
from transformers import AutoModelForImageTextToText, AutoTokenizer

from service.audit.judging import audit
from service.domain.facts import CheckpointFacts
from service.domain.judgement import Finding, Severity
from service.engine.behaviour import FORMS
from tests.broken import template_opens_a_thought_by_default
from tests.builders import Folders, copy_demo, cut_rows, edited_json, edited_tensors, token_id


def without_tokens(to: Path, *texts: str) -> Folders:
    folders = copy_demo(to)
    with edited_json(folders.base / "tokenizer.json") as document:
        document["added_tokens"] = [one for one in document["added_tokens"] if one["content"] not in texts]
    return folders


def found(facts: CheckpointFacts, model_type: str = "minicpmv4_6") -> list[Finding]:
    facts = replace(facts, base=replace(facts.base, model_type=model_type))
    return [one for one in audit(facts).findings() if one.check == "chat_template"]


def test_a_trained_row_that_no_token_reaches_shows_the_loss_in_any_family(tmp_path: Path) -> None:
    folders = without_tokens(tmp_path, "</think>")
    lost = token_id(copy_demo(tmp_path / "sound").base, "</think>")
    (finding,) = found(folders.facts(with_adapter=False), "llama")
    assert finding.severity is Severity.FATAL
    assert finding.evidence["trained_rows"] == [lost]
    assert "<think>" not in finding.message.replace("</think>", "")


def test_without_such_a_row_the_family_decides(tmp_path: Path) -> None:
    folders = without_tokens(tmp_path, "<think>", "</think>")
    cut_rows(folders, token_id(folders.base, "</image_id>") + 1)
    facts = folders.facts(with_adapter=False)
    (finding,) = found(facts)
    assert finding.severity is Severity.FATAL
    assert "every official vocabulary of minicpmv4_6" in finding.message
    (finding,) = found(facts, "minicpm")
    assert finding.severity is Severity.NOTE


def learn_to_think(folders: Folders) -> None:
    """Train the base, a few steps on four questions, until it closes the thoughts that its prompts open."""
    tokenizer = AutoTokenizer.from_pretrained(folders.base)
    model = AutoModelForImageTextToText.from_pretrained(folders.base, dtype=torch.float32)
    prompts = [f"<|im_start|>user\n{one}<|im_end|>\n<|im_start|>assistant\n<think>\n" for one, _ in FORMS]
    starts = [len(tokenizer.encode(one)) for one in prompts]
    texts = [torch.tensor(tokenizer.encode(f"{one}I see no picture.\n</think>\n\none<|im_end|>")) for one in prompts]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        losses = [
            functional.cross_entropy(model(input_ids=ids[None]).logits[0, start - 1 : -1], ids[start:])
            for start, ids in zip(starts, texts, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    trained = model.state_dict()
    with edited_tensors(folders.base_weights) as tensors:
        tensors.update({name: trained[name].to(one) for name, one in tensors.items()})


def test_a_model_that_learned_to_think_may_open_a_thought(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    learn_to_think(folders)
    template_opens_a_thought_by_default.make(folders)
    loaded = measure(folders.base, {})
    seen = loaded.base.behaviour
    assert seen is not None
    assert seen.open_thought is not None
    assert seen.open_thought.close_probability > 0.1
    report = audit(folders.facts(with_adapter=False), loaded)
    assert [one.message for one in report.findings() if one.severity is Severity.FATAL] == []
