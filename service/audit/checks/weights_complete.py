"""Check of tensors against the model's class: is every parameter in the files, in its shape.

Knows no value; `finite_weights` does.
"""

from collections.abc import Iterator

from service.audit.check import BaseView, Check, Outcome, fatal, note
from service.domain.facts import BaseFacts

SHOWN = 5
WHY = """\
Loading fills what the files lack with random numbers and says so in a line of the log. Exporting with another class,
freezing parts, or copying all shards but one loses tensors: LLaMA-Factory drops the voice of MiniCPM-o, ms-swift the
vision tower when it is not frozen (ms-swift#9187), a merge the head. Which parameters config.json asks for, and how
their names are spelled in files, transformers itself says: its class is built without memory and compared with the
files' headers."""


def base_weights_complete(view: BaseView) -> Iterator[Outcome]:
    """Compare the parameters of the model's class with the files' headers."""
    base = view.base
    plan = base.blueprint
    damaged = {one.file for one in base.problems}
    if plan is None or not base.tensors or "config.json" in damaged or any("safetensors" in one for one in damaged):
        return  # files says so
    if plan.problem:
        yield fatal(
            f"config.json cannot be used: {plan.problem}",
            {"problem": plan.problem},
            "The model cannot be built, so loading fails.",
            "Copy config.json from the base model, and change only what training changed.",
        )
        return
    missing = [name for name in plan.missing if not _is_head_of_untied(name, base)]
    if missing:
        yield fatal(
            f"{len(missing)} parameter(s) are in no file: {', '.join(missing[:SHOWN])}",
            {"tensors": missing[:50], "count": len(missing), "source": plan.source},
            "They are filled with random numbers: answers are noise, or a whole ability is gone.",
            "Save the model again whole, or copy the missing tensors from the base: minicpm-service repair --base.",
        )
    vocabulary = {one.tensor for one in (base.embedding, base.head) if one}
    wrong = {name: shapes for name, shapes in plan.misshapen.items() if name not in vocabulary}
    if wrong:
        name, (stored, needed) = next(iter(wrong.items()))
        yield fatal(
            f"{len(wrong)} tensor(s) have another shape than config.json asks for, first {name}: {list(stored)} "
            f"instead of {list(needed)}",
            {"tensors": {name: {"stored": list(a), "needed": list(b)} for name, (a, b) in list(wrong.items())[:50]}},
            "Loading fails, or fills them with random numbers.",
            "Restore the sizes in config.json from the base; if the weights are of another model, copy them again.",
        )
    if plan.unused:
        yield note(
            f"{len(plan.unused)} tensor(s) of the files are not used: {', '.join(plan.unused[:SHOWN])}",
            {"tensors": list(plan.unused)[:50], "count": len(plan.unused)},
            "If they were trained, their training is lost.",
        )


def _is_head_of_untied(name: str, base: BaseFacts) -> bool:
    """`tied_embeddings` speaks of a head that is missing."""
    return name.endswith("lm_head.weight") and base.head is None


CHECK = Check(
    "weights_complete", "Every parameter that the model asks for is in the files", base_weights_complete, why=WHY
)
