"""Measures the service beside vLLM and `transformers serve`: same checkpoints, same load, one table.

Run it with `python -m benchmarks.serving`.
"""
