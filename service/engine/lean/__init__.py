"""Modules that compute faster what transformers' and PyTorch's own do; each is held to what it stands for by a test."""

from service.engine.lean.building import make_lean, make_prompts_lean, pack, speed_up
from service.engine.lean.eight_bit import has_eight_bit, in_full

__all__ = ["has_eight_bit", "in_full", "make_lean", "make_prompts_lean", "pack", "speed_up"]
