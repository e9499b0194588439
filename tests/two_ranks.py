"""Run a function in two processes that are connected by gloo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

RANKS = 2


def in_two_ranks(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Results of `work(rank)` in two processes, which see each other.

    Args:
        work: Function at the top level of a module. Its result is saved with torch.
        folder: Folder for files.
    """
    multiprocessing.spawn(_rank, (work, str(folder)), nprocs=RANKS)
    files = [folder / f'{rank}.pth' for rank in range(RANKS)]
    return [torch.load(file, weights_only=True) for file in files]


def _rank(rank: int, work: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=RANKS
    )
    torch.save(work(rank), f'{folder}/{rank}.pth')
    distributed.destroy_process_group()
