"""Modules that compute faster what transformers' and PyTorch's own do; each is held to what it stands for by a test."""

from service.engine.lean.building import make_lean, speed_up

__all__ = ["make_lean", "speed_up"]
