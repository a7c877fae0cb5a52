"""Checks of values: files that can be read, NaN, infinity, tensors that are zero throughout, weights that no file had.

Knows no shapes and no names beyond what evidence needs.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, warning

SHOWN = 5


def base_files(view: BaseView) -> Iterator[Outcome]:
    """Check that every file that the model needs is there, whole and safe."""
    for problem in view.base.problems:
        if problem.file == "tokenizer.json" and "is missing" in problem.problem:
            severity, consequence = warning, "Ids cannot be compared with rows; a slow tokenizer may still load."
        else:
            severity, consequence = fatal, "The model cannot be loaded as it was saved."
        yield severity(
            f"{problem.file} {problem.problem}",
            {"file": problem.file},
            consequence,
            "Copy the file again from the source; convert pickle weights to safetensors where they were made.",
        )
    if view.loaded and view.loaded.missing_tensors:
        missing = view.loaded.missing_tensors
        yield fatal(
            f"{len(missing)} weight(s) are in no file and were made up at random: {', '.join(missing[:SHOWN])}",
            {"tensors": list(missing)[:50], "count": len(missing)},
            "Parts of the model are untrained: answers are noise.",
            "Save the model again whole, or copy the missing shards.",
        )
    if view.loaded and view.loaded.unexpected_tensors:
        extra = view.loaded.unexpected_tensors
        yield note(
            f"{len(extra)} tensor(s) of the files are not used: {', '.join(extra[:SHOWN])}",
            {"tensors": list(extra)[:50], "count": len(extra)},
            "If they were trained, their training is lost.",
        )


def base_finite_weights(view: BaseView) -> Iterator[Outcome]:
    """Look for NaN, infinity and zero matrices in the base."""
    for matrix in (view.base.embedding, view.base.head):
        if matrix and (matrix.values.num_nonfinite or matrix.values.is_all_zero):
            yield _broken_values(matrix.tensor, matrix.values.num_nonfinite, matrix.values.num_values)
    if view.loaded:
        known = {matrix.tensor for matrix in (view.base.embedding, view.base.head) if matrix}
        for name in [one for one in view.loaded.nonfinite if one not in known][:SHOWN]:
            yield _broken_values(name, 1, None)
        if view.loaded.all_zero:
            yield warning(
                f"{len(view.loaded.all_zero)} matrices are zero throughout: {', '.join(view.loaded.all_zero[:SHOWN])}",
                {"tensors": list(view.loaded.all_zero)[:50], "count": len(view.loaded.all_zero)},
                "They pass nothing on: whatever they were trained for is missing from answers.",
                "Compare with the base model's file; sharded training must gather the weights before saving.",
            )
        if not view.loaded.is_output_finite:
            yield fatal(
                "the probe's logits hold NaN or infinity",
                {},
                "Every answer is the same token repeated, or fails.",
                "Load in bfloat16 or float32: float16 overflows in models that were trained in bfloat16.",
            )


def adapter_finite_weights(view: AdapterView) -> Iterator[Outcome]:
    """Look for NaN and infinity in the adapter, and for factors that were never trained."""
    values = view.adapter.values
    for name in [name for name, one in values.items() if one.num_nonfinite][:SHOWN]:
        yield _broken_values(name, values[name].num_nonfinite, values[name].num_values)
    outputs = [name for name in values if ".lora_B" in name or ".lora_embedding_B" in name]
    idle = [name for name in outputs if values[name].is_all_zero]
    if outputs and len(idle) == len(outputs):
        yield fatal(
            f"all {len(idle)} lora_B factors are zero",
            {"tensors": idle[:SHOWN], "count": len(idle)},
            "The LoRA part of the adapter changes nothing: it was saved before training or never trained.",
            "Save a later checkpoint, or retrain with a learning rate that moves the weights.",
        )
    elif idle:
        yield note(f"{len(idle)} of {len(outputs)} lora_B factors are zero", {"tensors": idle[:SHOWN]})
    if view.loaded and not view.loaded.is_output_finite and not view.loaded.error:
        yield fatal(
            "the probe's logits with the adapter hold NaN or infinity",
            {},
            "Every answer is the same token repeated, or fails.",
            "Serve an earlier checkpoint of the adapter, or retrain in bfloat16.",
        )


def _broken_values(name: str, num_nonfinite: int, num_values: int | None) -> Outcome:
    if num_nonfinite == 0:
        return fatal(
            f"{name} is zero throughout",
            {"tensor": name},
            "The model reads nothing, or every token is equally likely.",
            "Save the model again; sharded training must gather the weights before saving.",
        )
    count = f"{num_nonfinite} of {num_values} values" if num_values else "at least one value"
    return fatal(
        f"{name} holds NaN or infinity ({count})",
        {"tensor": name, "nonfinite": num_nonfinite, "values": num_values},
        "NaN spreads through the whole answer.",
        "Use an earlier checkpoint; train in bfloat16 rather than float16.",
    )
