"""Broken tokenizers and templates of the 4.6 demo: after adding tokens, converting, retraining, and editing roles."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, trainers

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TEMPLATE, TOKENIZER
from benchmarks.unseen.third_4_6_editing import (
    EMBEDDINGS,
    HEAD,
    alone,
    on_json,
    read_json,
    read_tensors,
    replacing,
    with_tokens,
    write_json,
    write_tensors,
)

DOMAIN = ("picture", "shapes", "color", "图片", "颜色", "形状", "circle", "square")
REPORTS = (
    "The patient was examined on Monday and the radiograph shows no fracture of the left distal radius. ",
    "Follow-up in six weeks; physiotherapy was recommended, and the dressing is to be changed every second day. ",
    "患者于周一接受检查，影像学未见骨折，建议六周后复查并进行康复治疗。",
)
EMPTY_THOUGHT = "{{- '<think>\\n\\n</think>\\n\\n' -}}"


def _add_domain_words(model: Path) -> None:
    with_tokens(*DOMAIN, special=False)(model)
    tensors = read_tensors(model)
    generator = torch.Generator().manual_seed(6)
    for name in (HEAD, EMBEDDINGS):
        old = tensors[name][:761].float()
        new = old.mean(0) + torch.randn(len(DOMAIN), old.shape[1], generator=generator) * old.std() * 0.02
        tensors[name][761 : 761 + len(DOMAIN)] = new.to(tensors[name].dtype)
    write_tensors(model, tensors)


def _retrain(model: Path) -> None:
    content = read_json(model / TOKENIZER)
    fresh = Tokenizer.from_file(str(model / TOKENIZER))
    fresh.model = models.BPE()
    alphabet = sorted({piece for piece in content["model"]["vocab"] if len(piece) == 1})
    fresh.train_from_iterator(
        REPORTS * 8, trainers.BpeTrainer(vocab_size=748, initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(fresh.to_str())["model"]
    pieces = dict.fromkeys((*learned["vocab"], *content["model"]["vocab"]))
    special = {token["content"] for token in content["added_tokens"]}
    kept = [piece for piece in pieces if piece not in special][:748]
    content["model"]["vocab"] = {piece: place for place, piece in enumerate(kept)}
    content["model"]["merges"] = learned["merges"]
    write_json(model / TOKENIZER, content)


def _prefix_space(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["pretokenizers"][-1]["add_prefix_space"] = True


CASES: tuple[Case, ...] = (
    Case(
        "words_of_the_domain_added_and_never_trained",
        alone(_add_domain_words, with_base=True),
        "Common words were added as tokens for a domain and the model was saved before their rows were trained; "
        "wherever one occurs the model reads an average of everything (huggingface/transformers#1413)",
        ("图片", "颜色", "circle", "square", "added token", "embed_tokens"),
    ),
    Case(
        "tokenizer_retrained_on_own_texts",
        alone(_retrain, with_base=True),
        "A tokenizer trained on one's own texts was saved beside weights that know the old ids, so that nearly every "
        "id means another text",
        ("tokenizer.json", "vocab", "merges", "ids"),
    ),
    Case(
        "space_put_before_every_piece",
        alone(on_json(TOKENIZER, _prefix_space)),
        "Converted from a slow tokenizer with its prefix space, so that a space stands behind every special token "
        "(01-ai/Yi-1.5#37)",
        ("add_prefix_space", "space", "pre_tokenizer"),
    ),
    Case(
        "only_the_last_message_is_rendered",
        alone(replacing(TEMPLATE, ("for message in messages -", "for message in messages[-1:] -"))),
        "A template made for single instructions renders the last message alone; pictures and words of earlier turns "
        "are lost",
        ("template", "message", "turn", "history", "messages"),
    ),
    Case(
        "generation_prompt_without_empty_thought",
        alone(replacing(TEMPLATE, (EMPTY_THOUGHT, "{{- '' -}}")), with_base=True),
        "A trainer's own template leaves out the empty thought with which the model was trained to begin "
        "(hiyouga/LlamaFactory#10773)",
        ("<think>", "think", "template", "generation prompt"),
    ),
)
