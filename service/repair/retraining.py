"""Says what to retrain where no file can be corrected: the exact configuration, for PEFT and its front ends.

Knows findings only.
"""

from collections.abc import Iterable

from service.domain.judgement import Finding

ROWS = frozenset({"trained_rows", "row_health"})


def advice(findings: Iterable[Finding], *, is_tied: bool) -> list[str]:
    """Return lines to show for what remains.

    Args:
        findings: Those that still refuse the copy.
        is_tied: Input and output matrix are one, so that training one side trains both.
    """
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.subject}, {finding.check}: {finding.message}")
        if finding.check in ROWS:
            lines += _rows(finding, is_tied=is_tied)
        else:
            lines.append(f"  {finding.repair}")
    return lines


def _rows(finding: Finding, *, is_tied: bool) -> list[str]:
    found = finding.evidence.get("tokens")
    tokens = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    ids = sorted({one["id"] for one in tokens if isinstance(one.get("id"), int)})
    if not ids and isinstance(finding.evidence.get("id"), int):
        ids = [finding.evidence["id"]]
    if not ids:
        return [f"  {finding.repair}"]
    both = f'{{"embed_tokens": {ids}}}' if is_tied else f'{{"embed_tokens": {ids}, "lm_head": {ids}}}'
    return [
        "  PEFT:           LoraConfig(..., trainable_token_indices=" + both + ")",
        "  or, whole:      LoraConfig(..., modules_to_save="
        + ('["embed_tokens"], ensure_weight_tying=True)' if is_tied else '["embed_tokens", "lm_head"])'),
        "  LLaMA-Factory:  additional_target: embed_tokens,lm_head   resize_vocab: true",
        "  ms-swift:       --modules_to_save all-embedding",
        "  Add the tokens with tokenizer.add_tokens before training, in this order, and save the tokenizer beside it.",
    ]
