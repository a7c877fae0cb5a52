"""What is measured about a vocabulary matrix, compared with the definition on small matrices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from service.checkpoint.alignment import find_shift
from service.checkpoint.unused import impossible_bytes, unused_ids
from service.checkpoint.vocabulary import Wanted, measure_matrix
from service.checkpoint.weights import WeightFiles
from service.demo import demo_root
from tests.builders import copy_demo

NAME = "model.embed_tokens.weight"
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def written(to: Path, rows: torch.Tensor) -> WeightFiles:
    save_file({NAME: rows.contiguous()}, to / "model.safetensors")
    return WeightFiles([to / "model.safetensors"])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("num_rows", [1, 7, 3001])
def test_norms_mean_and_percentiles_are_those_of_the_definition(
    dtype: torch.dtype, num_rows: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rows = torch.randn(num_rows, 96).to(dtype)
    facts = measure_matrix(written(tmp_path, rows), NAME, Wanted(range(-2, num_rows + 5), {}))
    exact = rows.double()
    assert facts.rows.keys() == set(range(num_rows))
    for one in (0, num_rows // 2, num_rows - 1):
        row, others = exact[one], exact.sum(0) - exact[one]
        assert facts.rows[one].norm == pytest.approx(float(row.norm()), rel=1e-5)
        shorter = 100 * float((exact.norm(dim=1) < row.norm()).double().mean())
        assert facts.rows[one].norm_percentile == pytest.approx(shorter, abs=0.2)
        if num_rows > 1:
            cosine = float(torch.cosine_similarity(row, others, dim=0))
            assert facts.rows[one].cosine_to_mean == pytest.approx(cosine, abs=1e-4)


def test_every_row_is_in_one_bin_or_counted_beside(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = torch.randn(500, 16)
    rows[3], rows[4], rows[5] = 0, float("nan"), float("inf")
    facts = measure_matrix(written(tmp_path, rows), NAME, Wanted([3, 4, 5], {"behind": range(490, 500)}))
    histogram = facts.histogram
    assert histogram is not None
    assert (histogram.num_zero, histogram.num_nonfinite, histogram.reference) == (1, 2, "unused")
    assert sum(map(sum, histogram.counts)) == 497
    assert len(histogram.norm_edges) == len(histogram.counts) + 1
    assert len(histogram.distance_edges) == len(histogram.counts[0]) + 1
    assert facts.values.num_nonfinite == 32
    assert [facts.rows[one].is_finite for one in (3, 4, 5)] == [True, False, False]


def test_rows_too_large_for_a_square_are_finite(tmp_path: Path) -> None:
    rows = torch.ones(10, 8)
    rows[2] = 1e30
    facts = measure_matrix(written(tmp_path, rows), NAME, Wanted([2], {}))
    assert facts.values.num_nonfinite == 0
    assert facts.rows[2].norm == pytest.approx(1e30 * 8**0.5, rel=1e-6)


def test_twins_are_rows_with_the_very_same_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = torch.randn(400, 16)
    rows[7] = rows[350]
    rows[8] = -rows[350]
    rows[9] = rows[10] = 0
    facts = measure_matrix(written(tmp_path, rows), NAME, Wanted([7, 8, 9, 350], {}))
    assert {one: row.twins for one, row in facts.rows.items()} == {7: (350,), 8: (), 9: (), 350: (7,)}


def test_unused_rows_are_a_reference_unless_there_are_too_few_or_they_are_copies_of_rows_in_use(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = torch.randn(100, 16)
    rows[90:] = rows[0]
    weights = written(tmp_path, rows)
    assert measure_matrix(weights, NAME, Wanted([0], {"behind": range(90, 100)})).unused == {}
    facts = measure_matrix(weights, NAME, Wanted([0], {"behind": range(80, 90), "bytes": [3, 4]}))
    assert facts.unused.keys() == {"behind"}
    assert facts.num_unused == 12
    exact = rows[[*range(80, 90), 3, 4]].double().mean(0)
    distance = 1 - float(torch.cosine_similarity(rows[0].double(), exact, dim=0))
    assert facts.rows[0].distance == pytest.approx(distance, abs=1e-5)


def test_bytes_that_no_text_holds_are_found_however_a_vocabulary_spells_them(tmp_path: Path) -> None:
    tokenizer = copy_demo(tmp_path).facts(with_adapter=False).base.tokenizer
    assert tokenizer is not None
    ids = unused_ids(tokenizer, 832, {800})
    assert ids["bytes"] == [124, 125, *range(177, 188)]  # where all tokenizers of this order have them
    assert 800 not in ids["behind"]
    assert ids["behind"][0] == tokenizer.max_id + 1
    fallback = {f"<0x{one:02X}>": one for one in range(256)}
    assert [fallback[one] for one in impossible_bytes(fallback)] == [0xC0, 0xC1, *range(0xF5, 0x100)]
    assert impossible_bytes({"À": 1, "ÿ": 2}) == []


@pytest.mark.parametrize("shift", [1, -1, 17, -40])
def test_a_shift_between_the_matrices_is_found_with_its_size(shift: int) -> None:
    random = np.random.default_rng(0)
    trained = random.random(2000)
    norms = trained + 0.3 * random.random(2000)
    distances = trained + 0.3 * random.random(2000)
    assert find_shift(norms, distances, None) is None
    found = find_shift(np.roll(norms, shift), distances, None)
    assert found is not None
    assert found.rows == -shift
    assert found.fit > 0.5 > found.fit_now


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_matrices_show_no_shift(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert find_shift(random.random(1000), random.random(1000), None) is None


def test_smooth_matrices_show_no_shift() -> None:
    slope = np.linspace(1, 0, 5000)
    random = np.random.default_rng(0)
    assert find_shift(slope + 0.1 * random.random(5000), slope + 0.1 * random.random(5000), None) is None


def test_the_demo_s_adapter_says_where_it_changed_rows(tmp_path: Path) -> None:
    update = copy_demo(tmp_path, "official").facts().adapters["official"].embedding_update
    assert update is not None
    assert demo_root().exists()
    assert sum(one.num_changed for one in update.changed) == update.num_changed > 0
    assert len(update.changed) <= 64
    assert all(0 <= one.start < one.end and 0 < one.max_turn < 1 for one in update.changed)
