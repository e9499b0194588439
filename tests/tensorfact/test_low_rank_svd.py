"""Truncated decompositions: Eckart-Young, balance, degenerate matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.tensorfact.svd import truncated_factors


def random_matrix(rows, cols, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize('rank', range(1, 9))
def test_error_is_the_tail_of_the_singular_values(rank):
    matrix = random_matrix(96, 9)
    a, b = truncated_factors(matrix, rank)
    tail = torch.linalg.svdvals(matrix)[rank:].square().sum().sqrt()
    assert abs((matrix - a @ b).norm() - tail) <= 1e-12 * matrix.norm()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    planted=st.integers(1, 8),
    sigma=st.sampled_from(['sqrt', 'A', 'B']),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    seed=st.integers(0, 99),
)
def test_planted_rank_is_recovered(rows, cols, planted, sigma, scale, seed):
    planted = min(planted, rows, cols)
    matrix = scale * (
        random_matrix(rows, planted, seed) @ random_matrix(planted, cols, seed + 1)
    )
    for rank in (planted, min(rows, cols)):
        a, b = truncated_factors(matrix, rank, sigma)
        assert a.shape == (rows, rank)
        assert b.shape == (rank, cols)
        assert (matrix - a @ b).norm() <= 1e-10 * matrix.norm()


def test_error_falls_with_the_rank():
    matrix = random_matrix(50, 25, seed=3)
    errors = [
        (matrix - torch.matmul(*truncated_factors(matrix, rank))).norm()
        for rank in range(1, 26)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-13 * matrix.norm()


@pytest.mark.parametrize('shape', [(60, 9), (4, 25)])
def test_sigma_places(shape):
    matrix = random_matrix(*shape)
    rank = min(shape) - 1
    values = torch.linalg.svdvals(matrix)[:rank]
    eye = torch.eye(rank, dtype=torch.float64)
    a, b = truncated_factors(matrix, rank, 'sqrt')
    torch.testing.assert_close(a.T @ a, b @ b.T, rtol=0, atol=1e-11)
    # Half the squared norms of balanced factors is the nuclear norm of the product.
    half = (a.square().sum() + b.square().sum()) / 2
    torch.testing.assert_close(half, values.sum(), rtol=1e-12, atol=0)
    _, b = truncated_factors(matrix, rank, 'A')
    torch.testing.assert_close(b @ b.T, eye, rtol=0, atol=1e-12)
    a, _ = truncated_factors(matrix, rank, 'B')
    torch.testing.assert_close(a.T @ a, eye, rtol=0, atol=1e-12)


@pytest.mark.parametrize('sigma', ['sqrt', 'A', 'B'])
def test_zero_matrix_gives_factors_a_gradient_can_leave(sigma):
    a, b = truncated_factors(torch.zeros(12, 9), 4, sigma)
    assert torch.equal(a @ b, torch.zeros(12, 9, dtype=torch.float64))
    assert a.isfinite().all()
    assert (a.norm() > 0) != (b.norm() > 0)


@pytest.mark.parametrize('shape', [(12, 9), (9, 12)])
@pytest.mark.parametrize('planted', [0, 2])
def test_atoms_are_orthonormal_where_singular_values_vanish(shape, planted):
    matrix = random_matrix(shape[0], planted) @ random_matrix(planted, shape[1])
    eye = torch.eye(5, dtype=torch.float64)
    a, b = truncated_factors(matrix, 5, 'A')
    torch.testing.assert_close(b @ b.T, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(a @ b, matrix, rtol=0, atol=1e-12)
    a, b = truncated_factors(matrix, 5, 'B')
    torch.testing.assert_close(a.T @ a, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(a @ b, matrix, rtol=0, atol=1e-12)


def test_repeated_singular_values():
    matrix = torch.cat([torch.eye(9), -torch.eye(9)]).double()
    a, b = truncated_factors(matrix, 4)
    tail = (5 * 2.0) ** 0.5
    assert abs((matrix - a @ b).norm().item() - tail) < 1e-12


def test_single_precision_full_rank_is_accurate():
    matrix = random_matrix(4096, 9).float()
    a, b = truncated_factors(matrix, 9)
    error = (matrix - a.float() @ b.float()).norm() / matrix.norm()
    assert error < 3e-7


def test_memory_is_bounded_by_the_short_side():
    # A full decomposition would need a 200000 x 200000 matrix, 320 GB.
    a, b = truncated_factors(random_matrix(200_000, 9), 2)
    assert a.shape == (200_000, 2)
    a, b = truncated_factors(random_matrix(9, 50_000), 2)
    assert b.shape == (2, 50_000)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_refuses_what_is_not_finite(bad):
    matrix = torch.ones(4, 3)
    matrix[2, 1] = bad
    with pytest.raises(ValueError, match='NaN or infinite'):
        truncated_factors(matrix, 1)


@pytest.mark.parametrize('shape', [(9, 4), (4, 9)])
def test_unknown_sigma(shape):
    with pytest.raises(ValueError, match=r"sigma 'C', available: .*sqrt"):
        truncated_factors(torch.ones(shape), 1, 'C')
