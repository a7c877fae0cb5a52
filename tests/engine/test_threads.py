"""Threads that prepare requests leave the cores to the one that computes."""

from concurrent.futures import ThreadPoolExecutor

import torch
from threadpoolctl import threadpool_info

from service.engine.threads import compute_alone


def helpers() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "openmp"}


def test_only_the_calling_thread_computes_alone_and_stays_so() -> None:
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    before = helpers()

    def alone() -> list[set[int]]:
        compute_alone()
        first = helpers()
        torch.randn(400, 400).square().sum()
        compute_alone()
        return [first, helpers()]

    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(alone).result() == [{1}, {1}]
        assert helpers() == before
        assert 2 in before
    finally:
        torch.set_num_threads(kept)
