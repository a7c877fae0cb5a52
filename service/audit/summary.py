"""What was measured, in short: the facts that a report shows beside its findings.

Pure; bounded in size whatever the folder holds. Never a path.
"""

from collections.abc import Mapping
from typing import Any

from service.audit.check import AdapterView, BaseView
from service.audit.checks.model_config import code_files
from service.audit.older_minicpmv import config_of
from service.domain.facts import BaseFacts, CorpusFacts, MatrixFacts, RowUpdate, TemplateFacts, TokenizerFacts

MOST = 50


def summary(view: BaseView | AdapterView) -> dict[str, Any]:
    """Describe a subject in plain JSON values."""
    return _base(view) if isinstance(view, BaseView) else _adapter(view)


def _base(view: BaseView) -> dict[str, Any]:
    base, origin, merge = view.base, view.origin, view.merge
    facts: dict[str, Any] = {
        "name": base.name,
        "model_type": base.model_type,
        "tensors": len(base.tensors),
        "config_vocab_size": base.config_vocab_size,
        "tied": base.is_tied,
        "stop_ids": list(base.stop_ids[:MOST]),
        "embedding": _matrix(base.embedding),
        "head": _matrix(base.head),
        "tokenizer": _tokenizer(base.tokenizer),
        "template": _template(base.template),
        "corpus": _corpus(base.corpus),
    }
    if config_of(base):
        facts["minicpmv"] = _older_family(base)
    if origin:
        facts["origin"] = {
            "name": origin.base.name,
            "fingerprint": origin.base.fingerprint,
            "equal_tensors": origin.num_equal,
            "changed_tensors": len(origin.changed),
            "missing_tensors": len(origin.missing),
            "extra_tensors": len(origin.extra),
            "largest_change": max((one.relative for one in origin.changed.values()), default=0.0),
        }
    if merge:
        facts["merge"] = {
            "adapter": merge.adapter.name,
            "fingerprint": merge.adapter.fingerprint,
            "targets": len(merge.targets),
            "largest_residual": max((one.residual for one in merge.targets.values()), default=0.0),
            "largest_rounding": max((one.rounding for one in merge.targets.values()), default=0.0),
        }
    return facts


def _older_family(base: BaseFacts) -> dict[str, Any]:
    """Say of MiniCPM-V 2.6 to 4.5 what is no fault here, and may matter to another server."""
    config = config_of(base)
    return {
        "version": config.get("version"),
        "processor_version": base.documents.get("preprocessor_config.json", {}).get("version"),
        "code_not_in_folder": sorted(code_files(config) - base.files.keys())[:MOST],
    }


def _adapter(view: AdapterView) -> dict[str, Any]:
    adapter = view.adapter
    return {
        "name": adapter.name,
        "peft_type": adapter.peft_type,
        "ranks": sorted(adapter.ranks),
        "modules": adapter.attachment.num_modules,
        "tensors": len(adapter.lora) + len(adapter.full),
        "modules_to_save": list(adapter.modules_to_save[:MOST]),
        "trained_tokens": {name: len(ids) for name, ids in adapter.trainable_tokens.items()},
        "new_tokens": dict(list(adapter.new_tokens.items())[:MOST]),
        "rows": {"input": _update(adapter.embedding_update), "output": _update(adapter.head_update)},
        "tokenizer": _tokenizer(adapter.tokenizer),
        "template": _template(adapter.template),
        "corpus": _corpus(adapter.corpus),
    }


def _matrix(matrix: MatrixFacts | None) -> dict[str, Any] | None:
    if matrix is None:
        return None
    return {
        "tensor": matrix.tensor,
        "rows": matrix.num_rows,
        "hidden_size": matrix.hidden_size,
        "dtype": matrix.dtype,
        "unused_rows": matrix.num_unused,
        "median_norm": matrix.norms.median if matrix.norms else None,
    }


def _tokenizer(tokenizer: TokenizerFacts | None) -> dict[str, Any] | None:
    if tokenizer is None:
        return None
    return {
        "size": len(tokenizer.vocabulary) + len(tokenizer.grown),
        "max_id": tokenizer.max_id,
        "added_tokens": len(tokenizer.added),
        "class": tokenizer.declared_class,
        "byte_level": tokenizer.is_byte_level,
        "merges": tokenizer.merges_digest,
        "sampled_tokens": tokenizer.num_sampled,
        "unreachable_tokens": tokenizer.num_unreachable,
    }


def _template(template: TemplateFacts | None) -> dict[str, Any] | None:
    if template is None or not template.is_present:
        return None
    return {
        "turn_end": template.turn_end,
        "turn_end_id": template.turn_end_id,
        "control_tokens": dict(list(template.control_tokens.items())[:MOST]),
        "error": template.error,
    }


def _corpus(corpus: CorpusFacts | None) -> dict[str, Any] | None:
    if corpus is None:
        return None
    return {
        "name": corpus.name,
        "conversations": corpus.num_conversations,
        "tokens": corpus.num_tokens,
        "skipped": corpus.num_skipped,
    }


def _update(update: RowUpdate | None) -> Mapping[str, Any] | None:
    return {"kind": update.kind, "changed": update.num_changed} if update else None
