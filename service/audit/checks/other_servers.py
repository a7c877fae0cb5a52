"""Notes on what other servers would do with an adapter that this one serves whole.

Judges nothing: none of it is a fault of the adapter. Source: vLLM 0.32.0 (`config/lora.py`, `lora/peft_helper.py`,
`lora/utils.py`), SGLang (`lora_config.py`), LMDeploy (`patch.py`), each read in its release.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import AdapterView, Check, Outcome, note
from service.domain.facts import AdapterFacts, BaseFacts

CONFIG = "adapter_config.json"
DEFAULT_RANK = 16
LIMITS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` of vLLM takes."""
MERGE = "Merge it for such a server: minicpm-service merge BASE ADAPTER --output DIR."
FOLD = (
    "Fold it for such a server into a new base with a plain LoRA beside it: minicpm-service repair ADAPTER --base BASE "
    "--fold --output DIR"
)
WHY = """\
The same folder is often tried on another server, which refuses it or drops parts of it without a word. What this
service serves is noted here with what vLLM 0.32, SGLang and LMDeploy do, so that a difference in answers has a name.

Whole modules and trained rows are folded into a new base: `minicpm-service repair --fold`. A rank above 16 needs
`--max-lora-rank` at the start of vLLM. What else is refused or ignored is merged: `minicpm-service merge`.

While something about the adapter is fatal nothing is noted, as it is neither folded nor merged."""


def other_servers(view: AdapterView) -> Iterator[Outcome]:
    """List what vLLM and its peers refuse or ignore."""
    adapter = view.adapter
    config = adapter.documents.get(CONFIG, {})
    yield from _remote_modules(config)
    whole, refused, ignored = list(_whole(adapter)), list(_refused(adapter, config)), list(_ignored(adapter, config))
    flag = rank_flag(max(adapter.ranks, default=0))
    high = [f"rank {max(adapter.ranks)} without {flag}"] if flag else []
    parts = {"refuses": [*whole, *refused, *high], "ignores": ignored}
    if any(parts.values()):
        yield note(
            "vLLM 0.32 " + " and ".join(f"{verb} {', '.join(named)}" for verb, named in parts.items() if named),
            {"refused": parts["refuses"], "ignored": ignored, "server": "vLLM 0.32.0"},
            "Elsewhere the adapter is not loaded, or answers differ.",
            _way_out(view, flag, is_whole=bool(whole)),
        )


def _way_out(view: AdapterView, flag: str, *, is_whole: bool) -> str:
    """Name the least that makes vLLM serve it: a flag, a folded base, or a merged one."""
    adapter, config = view.adapter, view.adapter.documents.get(CONFIG, {})
    is_lost = any(_refused(adapter, config)) or any(_ignored(adapter, config, with_tokens=not is_whole))
    if is_lost or (is_whole and _is_shared(adapter, view.base)) or max(adapter.ranks, default=0) > LIMITS[-1]:
        return MERGE
    if is_whole:
        return f"{FOLD}; start it with {flag}." if flag else f"{FOLD}."
    return f"Start it with {flag}."


def _whole(adapter: AdapterFacts) -> Iterator[str]:
    """Name what is refused and can be folded into a base."""
    if adapter.modules_to_save:
        yield f"modules_to_save {list(adapter.modules_to_save)}"
    if adapter.trainable_tokens:
        yield "trainable_token_indices"


def _is_shared(adapter: AdapterFacts, base: BaseFacts) -> bool:
    """Say whether a saved input matrix is the base's output too, which folding would change."""
    return base.head is None and base.embedding is not None and base.embedding.tensor in adapter.full


def _refused(adapter: AdapterFacts, config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("use_dora"):
        yield "DoRA"
    if adapter.is_bias_trained or config.get("lora_bias"):
        yield "biases"


def _ignored(adapter: AdapterFacts, config: Mapping[str, Any], *, with_tokens: bool = True) -> Iterator[str]:
    if config.get("target_parameters"):
        yield f"target_parameters {config['target_parameters']}"
    if any("vision_tower" in key or key.startswith("vpm.") for key in adapter.lora):
        yield "LoRA on the vision tower"
    if with_tokens and adapter.new_tokens:
        yield f"the adapter's own tokenizer ({len(adapter.new_tokens)} new tokens)"


def rank_flag(rank: int) -> str:
    """Return the setting without which vLLM refuses a rank; empty if it needs none."""
    limit = next((one for one in LIMITS if one >= rank), rank)
    return f"--max-lora-rank {limit}" if rank > DEFAULT_RANK else ""


def _remote_modules(config: Mapping[str, Any]) -> Iterator[Outcome]:
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    if isinstance(library, str) and library.startswith("transformers_modules"):
        yield note(
            "AutoPeftModel of PEFT 0.21 refuses auto_mapping, which names code of the training machine",
            {"parent_library": library},
            "This service and PeftModel.from_pretrained do not read it.",
            'Write "auto_mapping": null for such a loader.',
        )


CHECK = Check(
    "other_servers", "What other servers do with the adapter", of_adapter=other_servers, is_for_sound=True, why=WHY
)
