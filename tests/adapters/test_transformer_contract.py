"""Contract suite of the methods for transformers, see `mmir.testing.contract`."""

import pytest
from transformer_rows import METHODS, NETWORKS, case

from mmir.testing.contract import CHECKS


@pytest.fixture(scope='module')
def rows():
    return {}


@pytest.mark.parametrize(
    ('network', 'method', 'check'),
    [
        pytest.param(
            *(network, method, check),
            marks=() if network == 'vit' else pytest.mark.slow,
        )
        for network in NETWORKS
        for method in METHODS
        if network == 'vit' or not method.startswith('VPT')  # refused, see test_vpt.py
        for check in CHECKS
    ],
    ids=lambda value: getattr(value, '__name__', value).removeprefix('check_'),
)
def test_contract(network, method, check, rows):
    pytest.importorskip('mmpretrain')
    # one row for all of its checks, which share cached models
    row = rows.setdefault((network, method), case(method, network))
    check(row)  # raises an AssertionError that says what failed
