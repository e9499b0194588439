"""Rank rules against the figures of the TensorFact specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmir.tensorfact.rank import (
    factor_count,
    full_rank,
    resolve_delta_rank,
    resolve_rank,
)
from mmir.tensorfact.split import SPLITS, get_split

CUT = get_split('ts_dd')


@pytest.mark.parametrize(
    ('alpha', 'rank'), [(1, 8), (0.75, 6), (0.5, 4), (0.25, 2), (0.1, 1), (50, 9)]
)
@pytest.mark.parametrize('shape', [(64, 64, 3, 3), (512, 512, 3, 3), (64, 3, 3, 3)])
def test_alpha_is_the_fraction_of_dense_parameters(alpha, rank, shape):
    assert resolve_rank({'alpha': alpha}, shape, CUT) == rank


@pytest.mark.parametrize(
    ('shape', 'rank'), [((32, 1, 3, 3), 7), ((32, 3, 3, 3), 8), ((4, 1, 3, 3), 2)]
)
def test_alpha_one_on_small_kernels(shape, rank):
    assert resolve_rank({'alpha': 1}, shape, CUT) == rank


def test_integers_and_full():
    assert resolve_rank(4, (8, 8, 3, 3), CUT) == 4
    assert resolve_rank('full', (8, 8, 3, 3), CUT) == 9
    assert resolve_rank('full', (2, 2, 5, 5), CUT) == 4
    assert full_rank((8, 8, 3, 5), CUT) == 15
    assert factor_count(4, (64, 64, 3, 3), CUT) == 4 * (4096 + 9)


@pytest.mark.parametrize('rank', [1, 4, 100, 'full', {'alpha': 0.5}])
def test_pointwise_kernels_have_one_rank(rank):
    assert resolve_rank(rank, (64, 32, 1, 1), CUT) == 1


def test_too_high_rank_names_the_geometry():
    with pytest.raises(ValueError, match=r'rank 16 exceeds .* 9 .*64x3x3x3 \(out x in'):
        resolve_rank(16, (64, 3, 3, 3), CUT)


@pytest.mark.parametrize(
    'rank',
    [
        *(0, -1, True, 2.0, None, 'half', {}, {'beta': 1}, {'alpha': 0}),
        *({'alpha': '1'}, {'alpha': float('nan')}, {'alpha': float('inf')}),
        {'alpha': 1, 'beta': 2},
    ],
)
def test_wrong_rank_says_what_is_right(rank):
    with pytest.raises(ValueError, match=r'8x4x3x3 .*from 1 to 9.*alpha'):
        resolve_rank(rank, (8, 4, 3, 3), CUT)


@pytest.mark.parametrize('rule', [{'energy': 0.9}, {'budget': 1000}])
def test_rules_that_read_weights_say_where_they_work(rule):
    with pytest.raises(ValueError, match=r'is read from weights: .*factorize_'):
        resolve_rank(rule, (8, 4, 3, 3), CUT)


@pytest.mark.parametrize(
    ('split', 'rows', 'cols'),
    [('ts_dd', 32, 15), ('td_sd', 24, 20), ('t_sdd', 8, 60), ('tdd_s', 120, 4)],
)
def test_full_rank_and_size_of_every_split(split, rows, cols):
    cut, shape = get_split(split), (8, 4, 3, 5)
    assert cut.matrix_shape(shape) == (rows, cols)
    assert full_rank(shape, cut) == min(rows, cols)
    assert factor_count(2, shape, cut) == 2 * (rows + cols)
    wanted = max(1, int(0.5 * rows * cols / (rows + cols)))
    assert resolve_rank({'alpha': 0.5}, shape, cut) == wanted


@pytest.mark.parametrize('split', ['td_sd', 't_sdd', 'tdd_s'])
def test_pointwise_kernels_are_channel_matrices_under_other_splits(split):
    cut = get_split(split)
    assert full_rank((64, 32, 1, 1), cut) == 32
    assert resolve_rank(4, (64, 32, 1, 1), cut) == 4
    assert factor_count(4, (64, 32, 1, 1), cut) == 4 * 96


@pytest.mark.parametrize(
    ('rule', 'rank'),
    [(0, 0), (3, 3), ({'ratio': 0.25}, 1), ({'ratio': 0.5}, 2), ({'ratio': 0.01}, 1)],
)
def test_delta_rank(rule, rank):
    assert resolve_delta_rank(rule, 4, (16, 16, 3, 3), CUT) == rank


@pytest.mark.parametrize('rule', [-1, 10, 1.5, '1', {'ratio': 0}, {'ratio': 9}, False])
def test_wrong_delta_rank(rule):
    with pytest.raises(ValueError, match=r'delta rank .*16x16x3x3 .*from 0 to 9'):
        resolve_delta_rank(rule, 4, (16, 16, 3, 3), CUT)


@given(
    shape=st.tuples(*[st.integers(1, 64)] * 2, *[st.integers(1, 7)] * 2),
    alpha=st.floats(1e-3, 3),
)
def test_alpha_keeps_its_promise(shape, alpha):
    rank = resolve_rank({'alpha': alpha}, shape, CUT)
    dense = shape[0] * shape[1] * shape[2] * shape[3]
    assert 1 <= rank <= full_rank(shape, CUT)
    assert rank == 1 or factor_count(rank, shape, CUT) <= alpha * dense * (1 + 1e-9)


def test_unknown_split_lists_the_available():
    with pytest.raises(ValueError, match=r"split 'cp', available: ts_dd"):
        get_split('cp')
    assert list(SPLITS) == ['ts_dd', 'td_sd', 't_sdd', 'tdd_s']
