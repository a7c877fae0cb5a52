"""Harmless differences in vocabulary rows, each a function that edits copies of the demo's folders.

Does not judge; `test_harmless.py` does.
"""

import torch
from safetensors.torch import load_file

from service.demo import demo_root
from tests.audit.differences_registry import harmless
from tests.builders import (
    EMBEDDING,
    HEAD,
    PREFIX,
    TOKENIZER_FILES,
    Folders,
    Tensors,
    add_token,
    cut_rows,
    edited_json,
    edited_tensors,
    merge_tokens,
    read_json,
    token_id,
)

NUM_ROWS = 832


def pad(folders: Folders, spare: torch.Tensor) -> None:
    """Append the same rows to both matrices."""
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = torch.cat([tensors[name], spare.to(tensors[name])])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = NUM_ROWS + len(spare)


def matrices(folders: Folders) -> Tensors:
    return load_file(folders.base_weights)


@harmless()
def padded_with_the_mean_row(folders: Folders) -> None:
    pad(folders, matrices(folders)[EMBEDDING].float().mean(0).repeat(192, 1))


@harmless()
def padded_with_copies_of_the_last_token_s_row(folders: Folders) -> None:
    last = matrices(folders)[EMBEDDING][token_id(folders.base, "</think>")]
    pad(folders, last.repeat(192, 1))


@harmless()
def padded_with_noise_around_the_mean(folders: Folders) -> None:
    """As LLaMA-Factory resizes: noise as long as an average row."""
    torch.manual_seed(4)
    mean = matrices(folders)[EMBEDDING].float().mean(0)
    pad(folders, mean + torch.randn(192, len(mean)) / len(mean) ** 0.5)


@harmless()
def padded_with_random_rows(folders: Folders) -> None:
    torch.manual_seed(3)
    pad(folders, 0.02 * torch.randn(192, matrices(folders)[EMBEDDING].shape[1]))


@harmless()
def padded_with_nothing_by_more_than_there_was(folders: Folders) -> None:
    pad(folders, torch.zeros(1600, matrices(folders)[EMBEDDING].shape[1]))


@harmless()
def matrices_saved_in_float32(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name].float()


@harmless()
def matrices_saved_in_float16(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name].half()


@harmless()
def every_row_trained_a_little_further(folders: Folders) -> None:
    torch.manual_seed(4)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name] + 0.005 * torch.randn(tensors[name].shape).to(tensors[name])


@harmless()
def a_matrix_in_another_unit(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING] *= 100


@harmless()
def rows_of_placeholders_never_trained(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][token_id(folders.base, "<|image_pad|>")] = 0
        tensors[EMBEDDING][token_id(folders.base, "<|video_pad|>")] *= 1000
        tensors[HEAD][token_id(folders.base, "<|image_pad|>")] = tensors[HEAD][800]


@harmless()
def output_rows_of_tokens_that_are_only_read_never_trained(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for token in ("<|im_start|>", "<image>", "</image>", "<image_id>"):
            tensors[HEAD][token_id(folders.base, token)] = tensors[HEAD][800]


@harmless()
def reserved_tokens_with_equal_rows_of_zeros_means_and_copies(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        rows = tensors[EMBEDDING]
        rows[761], rows[762], rows[763] = 0, rows.float().mean(0).to(rows), rows[300]
    for number in range(3):
        add_token(folders.base, f"<|reserved_special_token_{number}|>")


@harmless()
def tokens_of_the_family_that_no_training_reached(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][761:764] = tensors[name].float().mean(0).to(tensors[name])
    for token in ("<|audio_start|>", "<|spk_bos|>", "<|tts_eos|>"):
        add_token(folders.base, token)


@harmless("tokens", loaded="adapter")
def new_rows_in_float32(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in tensors:
            tensors[name] = tensors[name].float()


@harmless("tokens")
def new_rows_trained_three_times_as_far(folders: Folders) -> None:
    base = matrices(folders)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            old = base[HEAD if "lm_head" in name else EMBEDDING][761:767].to(tensors[name])
            tensors[name] = old + 3 * (tensors[name] - old)


@harmless("tokens")
def new_rows_trained_hardly(folders: Folders) -> None:
    base = matrices(folders)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            old = base[HEAD if "lm_head" in name else EMBEDDING][761:767].to(tensors[name])
            tensors[name] = old + 0.1 * (tensors[name] - old)


@harmless("official", loaded="adapter")
def a_saved_matrix_of_another_type(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING] = tensors[PREFIX + EMBEDDING].half()


@harmless("official")
def a_saved_matrix_as_the_base_has_it(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING] = matrices(folders)[EMBEDDING].to(tensors[PREFIX + EMBEDDING])


@harmless("official")
def a_saved_matrix_trained_twice_as_far(folders: Folders) -> None:
    base = matrices(folders)[EMBEDDING]
    with edited_tensors(folders.adapter_weights) as tensors:
        new = tensors[PREFIX + EMBEDDING]
        tensors[PREFIX + EMBEDDING] = 2 * new - base.to(new)


@harmless()
def a_new_token_merged_with_trained_rows_beside_reserved_ones(folders: Folders) -> None:
    merge_tokens(demo_root() / "adapters" / "tokens", folders.base)
    for number in range(4):
        add_token(folders.base, f"<|reserved_{number}|>")


@harmless()
def rows_of_bytes_that_no_text_holds_are_zero(folders: Folders) -> None:
    vocabulary = read_json(folders.base / "tokenizer.json")["model"]["vocab"]
    letters = [letter for byte, letter in spelled_bytes().items() if byte in (0xC0, 0xC1, *range(0xF5, 0x100))]
    rows = [vocabulary[letter] for letter in letters if letter in vocabulary]
    assert len(rows) == 13
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][rows] = 0


def spelled_bytes() -> dict[int, str]:
    """How byte-level vocabularies spell bytes: those without a sign of their own in the order of what follows 255."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [one for one in range(256) if one not in plain]
    return {one: chr(one) for one in plain} | {one: chr(256 + place) for place, one in enumerate(others)}


@harmless()
def rows_beyond_the_tokenizer(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            spare = tensors[name].new_zeros(1024 - len(tensors[name]), tensors[name].shape[1])
            tensors[name] = torch.cat([tensors[name], spare])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = 1024


@harmless()
def no_spare_row(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)


@harmless("official")
def base_rows_shrunk_by_weight_decay(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING] *= 0.99


@harmless()
def rows_never_trained_for_tokens_not_in_use(folders: Folders) -> None:
    reserved = [add_token(folders.base, f"<|reserved_{number}|>") for number in range(3)]
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][reserved] = 0
        tensors[EMBEDDING][token_id(folders.base, "<|video_pad|>")] = 0
        tensors[HEAD][token_id(folders.base, "<image>")] = 0


@harmless("tokens")
def trained_tokens_merged_into_the_base(folders: Folders) -> None:
    merge_tokens(folders.adapter, folders.base)
    for name in TOKENIZER_FILES:
        (folders.adapter / name).unlink()
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "token_adapter" in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["trainable_token_indices"] = None


@harmless()
def last_spare_row_is_a_copy_of_the_turn_end(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][-1] = tensors[name][token_id(folders.base, "<|im_end|>")]


@harmless()
def spare_rows_up_to_a_round_number(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], tensors[name][-1:].repeat(64, 1)])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] += 64


@harmless()
def decays_slow_in_some_heads(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("A_log")]:
            tensors[name][0] = -3


@harmless(loaded="base")
def heads_of_linear_attention_in_another_order(folders: Folders) -> None:
    """Both heads change places in everything that a layer has of them."""
    stretches = {"in_proj_qkv.weight": 6, "conv1d.weight": 6, "in_proj_z.weight": 2, "in_proj_a.weight": 2}
    stretches |= {"in_proj_b.weight": 2, "A_log": 2, "dt_bias": 2}
    with edited_tensors(folders.base_weights) as tensors:
        for name, one in tensors.items():
            layer, _, part = name.partition(".linear_attn.")
            if part in stretches:
                pairs = one.view(stretches[part] // 2, 2, -1, *one.shape[1:])
                tensors[name] = pairs.flip(1).reshape(one.shape)
            elif layer and part == "out_proj.weight":
                tensors[name] = one.view(len(one), 2, -1).flip(1).reshape(one.shape)


@harmless(loaded="base")
def channels_of_linear_attention_in_another_unit(folders: Folders) -> None:
    """A row is made longer by a power of two, and the kernel behind it shorter."""
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("in_proj_qkv.weight")]:
            kernel = name.replace("in_proj_qkv", "conv1d")
            factors = 2.0 ** torch.randint(-2, 3, (len(tensors[name]), 1), generator=torch.Generator().manual_seed(0))
            tensors[name] = (tensors[name] * factors).to(tensors[name])
            tensors[kernel] = (tensors[kernel] / factors[..., None]).to(tensors[kernel])


@harmless()
def a_few_rare_tokens_without_rows(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][300:312] = 0


@harmless()
def spare_rows_before_those_of_a_resize(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(6)
    cut_rows(folders, 769)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            rows = tensors[name].float()
            noise = torch.randn(63, rows.shape[1], generator=generator) * 1e-5
            tensors[name] = torch.cat([rows, rows.mean(0) + noise])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = 832


@harmless()
def spare_rows_before_noise(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(7)
    cut_rows(folders, 769)
    pad(folders, 0.02 * torch.randn(NUM_ROWS - 769, matrices(folders)[EMBEDDING].shape[1], generator=generator))
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = NUM_ROWS
