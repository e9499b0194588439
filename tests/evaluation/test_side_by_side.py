"""Work side by side: order, one torch thread each, nothing left changed."""

import threading

import pytest
import torch

from mmir.evaluation.side_by_side import map_side_by_side


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_each_has_one_thread_and_the_number_is_put_back():
    seen = map_side_by_side(
        lambda k: (k, torch.get_num_threads(), threading.get_ident()), range(40), 2
    )
    assert [k for k, _, _ in seen] == list(range(40))
    assert {n for _, n, _ in seen} == {1}
    assert threading.get_ident() not in {ident for *_, ident in seen}
    assert torch.get_num_threads() == 3
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_one_worker_is_this_thread():
    assert (
        map_side_by_side(lambda _: threading.get_ident(), [0, 0], 1)
        == [threading.get_ident()] * 2
    )


def test_an_error_comes_out():
    def fail(k):
        raise ValueError(f'item {k}')

    with pytest.raises(ValueError, match='item 0'):
        map_side_by_side(fail, range(4), 2)
    assert torch.get_num_threads() == 3
