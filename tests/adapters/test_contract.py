"""Contract suite: every method on every network, see `mmir.testing.contract`."""

import pytest
from contract_rows import METHODS, NETWORKS, case

from mmir.testing.contract import (
    CHECKS,
    check_files,
    check_merging,
    check_only_the_declared_changes,
)

SMALL = ('vit', 'mobilenet_v3')
ESSENTIAL = (check_files, check_merging, check_only_the_declared_changes)


def speed(method, network, check):
    """Mark all but small networks and the essentials of one method as slow."""
    quick = network in SMALL or (method == 'ConvLoRA' and check in ESSENTIAL)
    return () if quick else pytest.mark.slow


@pytest.fixture(scope='module')
def rows():
    return {}


@pytest.mark.parametrize(
    ('network', 'method', 'check'),
    [
        pytest.param(network, method, check, marks=speed(method, network, check))
        for network in NETWORKS
        for method in METHODS
        for check in CHECKS
    ],
    ids=lambda value: getattr(value, '__name__', value).removeprefix('check_'),
)
def test_contract(network, method, check, rows):
    pytest.importorskip(NETWORKS[network].scope)
    # one row for all of its checks, which share cached models
    row = rows.setdefault((network, method), case(method, network))
    check(row)  # raises an AssertionError that says what failed
