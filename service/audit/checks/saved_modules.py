"""Check of modules that an adapter saved whole: are they the base's own, tuned, and is none left in a pickle file.

Knows how alike the matrices are, and no value of them.
"""

import re
from collections.abc import Iterator

from service.audit.check import AdapterView, Check, Outcome, fatal, note
from service.audit.checks.rearranged import rearranged
from service.audit.older_minicpmv import OFFICIAL, config_of
from service.domain.factors import LINEAR, part_of

LEAST_LIKENESS = 0.1
"""Cosine of two versions of a matrix. Tuning leaves it near 1, and even noise of five times its size at 0.2; that of
matrices of two unrelated models is near 0."""
SHOWN = 3
LOOSE = re.compile(r"^(?P<modules>[a-z_]*(vpm|resampler|embed)[a-z_]*)\.(pt|pth|bin)$", re.IGNORECASE)
ATTENTION = re.compile(r"llm\..*\.self_attn\.[qkv]_proj")
NAMED = {"vpm": "vpm", "resampler": "resampler", "embed": "embed_tokens"}
"""Modules that the name of a loose file can stand for."""
WHY = """\
`modules_to_save` puts complete modules into the adapter's file: OpenBMB's script saves `embed_tokens`, `resampler` and,
with `tune_vision`, `vpm`. With the adapter they replace the base's. Their shapes fit every model of the same size, so
that those of MiniCPM-o 2.6 load on MiniCPM-V 2.6 and no error tells that the LoRA beside them was trained around other
weights. Tuning turns a matrix by a few degrees; one that has nothing in common with the base's was not tuned from it,
and one that holds the base's values in another order or with other signs (a tower's colours, positions, norms) was
converted wrongly.

Older scripts wrote these modules into `vpm_resampler_embedtokens.pt` beside a plain LoRA. That is a pickle, which can
run code and is never opened; what it alone holds is not served. These lines, with the two folders' paths, copy its
tensors into the adapter's file under the names that PEFT reads; `weights_only` lets torch read them and run nothing.

```python
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

BASE, ADAPTER = Path("BASE"), Path("ADAPTER")

known = {name for path in BASE.glob("*.safetensors") for name in safe_open(path, "pt").keys()}
loose = torch.load(ADAPTER / "vpm_resampler_embedtokens.pt", map_location="cpu", weights_only=True)
tensors = load_file(ADAPTER / "adapter_model.safetensors")
for key, one in loose.items():
    name = key.removeprefix("module.").removeprefix("base_model.model.").replace("modules_to_save.default.", "")
    if name in known:
        tensors["base_model.model." + name] = one.contiguous().clone()
    else:
        print("left out:", key)
save_file(tensors, ADAPTER / "adapter_model.safetensors", metadata={"format": "pt"})
config = json.loads((ADAPTER / "adapter_config.json").read_text())
whole = [key for key in tensors if ".lora_" not in key]
parts = {part for part in ("embed_tokens", "resampler", "vpm", "merger") if any(f".{part}." in key for key in whole)}
config["modules_to_save"] = sorted({*(config.get("modules_to_save") or ()), *parts})
(ADAPTER / "adapter_config.json").write_text(json.dumps(config, indent=2))
```

Run it on a copy, then audit the copy: what the pickle lacked is named there."""
ADD = (
    "Add its tensors to adapter_model.safetensors, and their modules to modules_to_save: docs/audit/saved_modules.md "
    "has the lines of Python for it."
)


def adapter_saved_modules(view: AdapterView) -> Iterator[Outcome]:
    """Compare saved modules with the base's, and look for those that only a pickle file holds."""
    yield from _of_another_version(view)
    yield from _alike(view)
    yield from rearranged(view.adapter.saved_rearranged, "the base's")
    yield from _nothing_is_loose(view)


def _of_another_version(view: AdapterView) -> Iterator[Outcome]:
    """Name the version that the adapter's width is of, where it is not the base's; `adapter_applied` refuses it."""
    width = config_of(view.base).get("hidden_size")
    shapes = [one.shape for key, one in view.adapter.lora.items() if _reads_width(key)]
    found = {shape[1] for shape in shapes if len(shape) == 2} - {width}
    versions = {official.hidden: version for version, official in OFFICIAL.items()}
    if width and len(found) == 1 and (hidden := found.pop()) in versions:
        yield note(
            f"its factors are of width {hidden}, that of MiniCPM-V {versions[hidden]}; this base has {width}",
            {"adapter": hidden, "base": width, "version": versions[hidden]},
            "The adapter was trained on that version.",
            f"Serve it on MiniCPM-V {versions[hidden]}.",
        )


def _reads_width(key: str) -> bool:
    part = part_of(key)
    return part is not None and part.kind == LINEAR[0] and ATTENTION.fullmatch(part.module) is not None


def _alike(view: AdapterView) -> Iterator[Outcome]:
    adapter = view.adapter
    spoilt = {name for name, one in adapter.values.items() if one.num_nonfinite or one.is_all_zero}  # others say so
    spoilt |= adapter.saved_rearranged.keys()
    alien = {name: one for name, one in adapter.saved_likeness.items() if one < LEAST_LIKENESS and name not in spoilt}
    if not alien:
        return
    shown = ", ".join(f"{name} (cosine {one:.2f})" for name, one in list(alien.items())[:SHOWN])
    yield fatal(
        f"{len(alien)} of {len(adapter.saved_likeness)} matrices that the adapter saved whole have next to nothing in "
        f"common with the base's: {shown}",
        {"cosine": {name: round(one, 4) for name, one in list(alien.items())[:50]}, "limit": LEAST_LIKENESS},
        "They were tuned from another base, or made up at random when the model was loaded for training: the LoRA "
        "beside them fits neither these weights nor this model.",
        "Serve it on the base that it was trained on. If training began these modules anew on purpose, waive this "
        "finding with that reason.",
    )


def _nothing_is_loose(view: AdapterView) -> Iterator[Outcome]:
    """Name the modules that a loose file must hold and adapter_model.safetensors does not."""
    adapter = view.adapter
    if not config_of(view.base) or not adapter.full:
        return  # where the file holds no whole module at all, adapter_lineage says so
    for file in adapter.files:
        if not (match := LOOSE.match(file)):
            continue
        meant = [name for part, name in NAMED.items() if part in match["modules"].lower()]
        lost = [name for name in meant if not any(f"{name}." in key for key in adapter.full)]
        if not lost:
            yield note(
                f"{file} lies beside the adapter; by its name it holds {', '.join(meant)}, which "
                "adapter_model.safetensors holds too",
                {"file": file, "bytes": adapter.files[file], "modules": meant},
                "What the second holds is served. The first is a pickle and is never opened, so whether its values are "
                "the same is not known.",
                "Delete it if it is left over.",
            )
            continue
        yield fatal(
            f"{file} holds {', '.join(meant)}, of which adapter_model.safetensors lacks {', '.join(lost)}; it is a "
            "pickle and is never opened",
            {"file": file, "bytes": adapter.files[file], "modules": meant, "missing": lost},
            f"{', '.join(lost)} stay(s) the base's: what was trained there is not served.",
            ADD,
        )


CHECK = Check(
    "saved_modules",
    "Modules that were saved whole are the base's own, tuned",
    of_adapter=adapter_saved_modules,
    why=WHY,
)
