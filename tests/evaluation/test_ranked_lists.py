"""Ranked lists: order, ties, hidden images."""

import pytest
import torch

from mmir.evaluation import ranked_lists
from mmir.utils.errors import UserError

GALLERY = ([1, 1, 2, 2, 3, 3, 4], [1, 2, 1, 4, 2, 5, 4])
QUERY = ([1, 2, 3, 5], [3, 6, 3, 6])
ORDERS = [[1, 4, 3, 2, 0, 5, 6], [3, 4, 5, 2, 0, 1, 6], [0, 6, 4, 5, 1, 2, 3]]


def distances() -> torch.Tensor:
    """Distances that rank the gallery as given; all equal for the last query."""
    found = torch.zeros(4, 7)
    for row, order in enumerate(ORDERS):
        found[row, torch.tensor(order)] = torch.arange(7.0)
    return found


def test_lists_without_a_rule_are_the_ranking() -> None:
    given = distances()
    found = ranked_lists(given, QUERY, GALLERY, 'plain', top=20)
    assert found.tolist() == [*ORDERS, [0, 1, 2, 3, 4, 5, 6]]
    assert torch.equal(given, distances())


def test_cameras_at_the_same_place_are_hidden() -> None:
    """Camera 2 has the images 1 and 4, which queries of camera 3 do not see."""
    found = ranked_lists(distances(), QUERY, GALLERY, 'sysu_all_agw', top=7)
    assert found[0].tolist() == [3, 2, 0, 5, 6, -1, -1]
    assert found[1].tolist() == ORDERS[1]
    assert found[2].tolist() == [0, 6, 5, 2, 3, -1, -1]


def test_lists_are_cut() -> None:
    assert ranked_lists(distances(), QUERY, GALLERY, 'plain', top=2).shape == (4, 2)


def test_what_a_ranking_refuses_is_refused_here() -> None:
    broken = distances()
    broken[0, 0] = torch.nan
    with pytest.raises(UserError, match='NaN'):
        ranked_lists(broken, QUERY, GALLERY, 'plain')
    with pytest.raises(UserError, match='gallery_ids'):
        ranked_lists(distances()[:, :2], QUERY, GALLERY, 'plain')
    with pytest.raises(UserError, match=r'cameras \[4, 5\]'):
        ranked_lists(distances(), QUERY, GALLERY, 'sysu_indoor_agw')
