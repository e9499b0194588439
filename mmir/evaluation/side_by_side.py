"""Independent work on a CPU side by side, one thread each."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar('Item')
Result = TypeVar('Result')


def map_side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> list[Result]:
    """Map in several threads, in each of which torch uses one.

    A chain of small operations gains little if each is split among the threads of
    torch, and loses a lot on a busy machine, where each waits for the slowest thread.

    Args:
        function (Callable): Work on CPU tensors that calls nothing but torch.
        items (Iterable): Its arguments.
        workers (int): Number of threads. With one, everything runs in this thread.

    Returns:
        list: Results in the order of the items.
    """
    if workers <= 1:
        return [function(item) for item in items]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, None, torch.set_num_threads, (1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(before)  # also what threads to come begin with
