"""The native model gives what the official code gave, on tiny checkpoints in the official layout."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from golden_vectors import ADAPTED, CASES, GOLDEN, VERSIONS, generated, inputs, stop_ids, valid, vectors

from service.engine.adapters import mount
from service.engine.families.minicpmv.modeling import MiniCPMV
from service.engine.families.minicpmv.positions import axis_buckets, grid_vectors, table_rows, time_vectors

PICTURES, LOGITS = 5e-5, 1e-4


@pytest.fixture(scope="module")
def model_of() -> Callable[..., Any]:
    """Load a version once, for each attention."""
    loaded: dict[tuple[str, str], Any] = {}

    def load(version: str, attention: str = "sdpa") -> Any:
        if (version, attention) not in loaded:
            folder = GOLDEN / version / "checkpoint"
            loaded[version, attention] = MiniCPMV.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=attention
            ).eval()
        return loaded[version, attention]

    return load


@pytest.mark.parametrize("size", [980, 448])
def test_patches_are_in_the_official_buckets_at_every_length(size: int) -> None:
    tables = np.load(GOLDEN / "tables_position_ids.npz")
    for patches in range(1, 321):
        assert axis_buckets(patches, size // 14).tolist() == tables[f"bucket_{size}"][patches, :patches].tolist()
    for name in (one for one in tables.files if one.startswith(f"pos_{size}_")):
        height, width = map(int, name.rpartition("_")[2].split("x"))
        assert table_rows([(height, width)], size // 14).tolist() == tables[name].tolist()


def test_patches_and_moments_have_the_official_vectors() -> None:
    tables = np.load(GOLDEN / "tables_resampler_pos.npz")
    for size in (128, 4096):
        for (row, column), wanted in zip(tables["grid_hw"], tables[f"pos2d_dim{size}"], strict=True):
            found = grid_vectors((int(row) + 1, int(column) + 1), torch.empty(0, size))[-1]
            assert torch.allclose(found, torch.from_numpy(wanted), rtol=0, atol=1e-6), (row, column)
    moments = time_vectors(tables["temporal_ids"].tolist(), 128)
    assert torch.allclose(moments, torch.from_numpy(tables["temporal_dim128"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_vectors_of_patches_are_rounded_to_a_type_and_not_computed_in_it(dtype: torch.dtype) -> None:
    exact = grid_vectors((99, 70), torch.empty(0, 128))
    assert torch.equal(grid_vectors((99, 70), torch.empty(0, 128, dtype=dtype)), exact.to(dtype))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("version", "name"), CASES)
def test_a_model_computes_what_the_official_code_does(
    version: str, name: str, attention: str, model_of: Callable[..., Any]
) -> None:
    model, case = model_of(version, attention), vectors(version, f"case_{name}")
    tensors = inputs(case)
    with torch.inference_mode():
        output = model(**tensors)
        if "pixel_values" in tensors:
            keywords = {key: tensors.get(key) for key in ("pixel_values", "target_sizes", "temporal_ids")}
            features = model.get_image_features(**keywords)
            wanted = valid(case["out.vpm"], case["in.tgt_sizes"])
            assert torch.allclose(features.last_hidden_state, wanted, rtol=0, atol=PICTURES)
            blocks = torch.stack(features.pooler_output)
            assert torch.allclose(blocks, torch.from_numpy(case["out.resampler"]), rtol=0, atol=PICTURES)
            embeds = model.embed(tensors["input_ids"], features.pooler_output, tensors["image_bound"])
            assert torch.allclose(embeds, torch.from_numpy(case["out.inputs_embeds"]), rtol=0, atol=PICTURES)
    assert torch.allclose(output.logits, torch.from_numpy(case["out.logits"]), rtol=0, atol=LOGITS)


@pytest.mark.parametrize(("version", "name"), ADAPTED)
def test_an_adapter_of_the_official_script_computes_what_it_did_there(
    version: str, name: str, model_of: Callable[..., Any]
) -> None:
    model, case = model_of(version), vectors(version, f"lora_case_{name}")
    mounted = mount(model, GOLDEN / version / "lora")
    assert (mounted.missing_keys, mounted.unexpected_keys) == ((), ())
    tensors = inputs(vectors(version, f"case_{name}"))
    with torch.inference_mode():
        logits = mounted.model(**tensors).logits
        if "out.resampler" in case:
            blocks = mounted.model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
            assert torch.allclose(torch.stack(blocks), torch.from_numpy(case["out.resampler"]), rtol=0, atol=PICTURES)
    assert torch.allclose(logits, torch.from_numpy(case["out.logits"]), rtol=0, atol=LOGITS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_padded_batch_generates_the_official_tokens(version: str, model_of: Callable[..., Any]) -> None:
    model = model_of(version)
    tensors, wanted = generated(version)
    options = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": stop_ids(version), "pad_token_id": 0}
    with torch.inference_mode():
        found = model.generate(**tensors, **options)
        assert found[:, tensors["input_ids"].shape[1] :].tolist() == wanted
        without_cache = model.generate(**tensors, **options, use_cache=False)
    assert torch.equal(found, without_cache)
