"""Notes on what other servers would do with an adapter that this one serves whole.

Judges nothing: none of it is a fault of the adapter. Source: vLLM 0.32.0 (`lora/peft_helper.py`, `lora/utils.py`),
SGLang (`lora_config.py`), LMDeploy (`patch.py`), each read in its release.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import AdapterView, Check, Outcome, note

CONFIG = "adapter_config.json"
DEFAULT_RANK = 16
WHY = """\
The same folder is often tried on another server, which refuses it or drops parts of it without a word. What this
service serves is noted here with what vLLM 0.32, SGLang and LMDeploy do, so that a difference in answers has a name.
The way out that always works is to merge, or to fold whole modules into a new base: `minicpm-service merge`,
`minicpm-service repair --fold`."""


def other_servers(view: AdapterView) -> Iterator[Outcome]:
    """List what vLLM and its peers refuse or ignore."""
    adapter = view.adapter
    config = adapter.documents.get(CONFIG, {})
    yield from _remote_modules(config)
    refused, ignored = [], []
    if adapter.modules_to_save:
        refused.append(f"modules_to_save {list(adapter.modules_to_save)}")
    if adapter.trainable_tokens:
        refused.append("trainable_token_indices")
    if config.get("use_dora"):
        refused.append("DoRA")
    if adapter.is_bias_trained or config.get("lora_bias"):
        refused.append("biases")
    if adapter.ranks and max(adapter.ranks) > DEFAULT_RANK:
        refused.append(f"rank {max(adapter.ranks)} without --max-lora-rank {max(adapter.ranks)}")
    if config.get("target_parameters"):
        ignored.append(f"target_parameters {config['target_parameters']}")
    if any("vision_tower" in key or key.startswith("vpm.") for key in adapter.lora):
        ignored.append("LoRA on the vision tower")
    if adapter.new_tokens:
        ignored.append(f"the adapter's own tokenizer ({len(adapter.new_tokens)} new tokens)")
    if refused or ignored:
        yield note(
            "vLLM 0.32 "
            + " and ".join(
                part
                for part in (
                    f"refuses {', '.join(refused)}" if refused else "",
                    f"ignores {', '.join(ignored)}" if ignored else "",
                )
                if part
            ),
            {"refused": refused, "ignored": ignored, "server": "vLLM 0.32.0"},
            "Elsewhere the adapter is not loaded, or answers differ.",
            "Merge it for such a server: minicpm-service merge BASE ADAPTER --output DIR.",
        )


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


CHECK = Check("other_servers", "What other servers do with the adapter", of_adapter=other_servers, why=WHY)
