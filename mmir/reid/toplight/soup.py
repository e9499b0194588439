"""`uniform_soup`: one network from both paths of task-oriented pretraining.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023.
[2] M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models
improves accuracy without increasing inference time", ICML 2022.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmir.utils.errors import UserError
from mmir.utils.files import few

from .partition import Partition, partition_of

Weights = dict[str, Tensor]

VARIANCES = ('total', 'mean')

PATHS = ('rgb', 'ir')


class SoupReport(NamedTuple):
    """What a soup averaged.

    Attributes:
        network (str): Row of :data:`mmir.reid.toplight.PARTITIONS`.
        averaged (tuple[str, ...]): Modules whose weights are averages.
        kept (tuple[str, ...]): Stems, which stay one per modality.
        parameters (int): Number of averaged weights, without statistics.
        distance (float): Distance of the weights of both paths, over the norm of their
            mean. 0 for equal paths; far above 1, an average means little.
        variance (str): How variances of norms were averaged.
        left_out (int): Number of tensors of the checkpoint outside of the backbone.
    """

    network: str
    averaged: tuple[str, ...]
    kept: tuple[str, ...]
    parameters: int
    distance: float
    variance: str
    left_out: int

    def __str__(self) -> str:
        """Say it in a few lines."""
        return '\n'.join(
            (
                f'averaged ({self.network}, blocks 2 to 4): {", ".join(self.averaged)}',
                f'kept per modality (block 1): {", ".join(self.kept)}',
                f'{self.parameters} weights averaged; the paths differ by '
                f'{self.distance:.1%} of their norm; variances: {self.variance}',
                f'left out: {self.left_out} tensors outside of the backbone',
            )
        )


def average_weights(states: Sequence[Mapping[str, Tensor]], variance: str) -> Weights:
    """Average networks of one architecture, weight by weight [2].

    Args:
        states (Sequence[Mapping]): State dicts with the same keys and shapes.
        variance (str): Running variance of batch norms. 'total': the variance of the
            data of all networks together, `mean(var) + var(mean)`. 'mean': the plain
            mean, as in the code of [2].

    Returns:
        dict[str, Tensor]: Averages. Integers, such as the counters of batch norms, are
        those of the first network: their average would be no integer.

    Raises:
        UserError: Networks or widths differ, or the variance is unknown.
    """
    if variance not in VARIANCES:
        raise UserError(f'variance={variance!r}: choose one of {VARIANCES}')
    _require_alike(states)
    found = {}
    for key, value in states[0].items():
        stack = torch.stack([state[key] for state in states])
        if not stack.is_floating_point():
            found[key] = value.clone()
            continue
        found[key] = stack.mean(0)
        means = f'{key.removesuffix("running_var")}running_mean'
        if variance == 'total' and key.endswith('running_var') and means in states[0]:
            both = torch.stack([state[means] for state in states])
            found[key] += both.var(0, unbiased=False)
    return found


def uniform_soup(
    state: Mapping[str, Tensor], network: str, variance: str = 'total'
) -> tuple[Weights, SoupReport]:
    """Average blocks 2 to 4 of both paths; keep block 1 as two stems [1].

    Args:
        state (Mapping[str, Tensor]): State dict of a
            :class:`mmir.reid.DualPathBackbone`, or of a model with one.
        network (str): Row of :data:`mmir.reid.toplight.PARTITIONS`.
        variance (str): See :func:`average_weights`.

    Returns:
        tuple[dict[str, Tensor], SoupReport]: State dict of a
        :class:`mmir.reid.TwoStemBackbone` with the stem of the row, and what was
        averaged.

    Raises:
        UserError: The checkpoint has no two paths, is of another network or width, or
            the variance is unknown.
    """
    partition = partition_of(network)
    if not partition.soup:
        raise UserError(f'{network!r} has no blocks 2 to 4, only a stem per modality')
    start = _start(state, partition, network)
    inside = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    _require_row(inside, partition, network)
    found, parts = {}, {}
    for name in partition.soup:
        paths = [_below(inside, f'{name}.copies.{path}.') for path in PATHS]
        parts[name] = paths
        for key, value in average_weights(paths, variance).items():
            found[f'{name}.{key}'] = value
    averaged = tuple(f'{name}.copies.' for name in partition.soup)
    found.update({k: v for k, v in inside.items() if not k.startswith(averaged)})
    one, two = (_vector([paths[k] for paths in parts.values()]) for k in range(2))
    report = SoupReport(
        network,
        partition.soup,
        partition.stem,
        len(one),
        float((one - two).norm() / ((one + two) / 2).norm().clamp(min=1e-12)),
        variance,
        len(state) - len(inside),
    )
    return {f'backbone.{key}': value for key, value in found.items()}, report


def _vector(states: Sequence[Weights]) -> Tensor:
    """All weights as a vector, without the statistics of norms."""
    weights = [
        value.flatten().double()
        for state in states
        for key, value in state.items()
        if not re.search(r'running_|num_batches', key)
    ]
    return torch.cat(weights)


def _below(state: Mapping[str, Tensor], start: str) -> Weights:
    """Weights of a module, under their names in it."""
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}


def _require_alike(states: Sequence[Mapping[str, Tensor]]) -> None:
    """Refuse networks that differ, and other widths."""
    if not states:
        raise UserError('nothing to average: give at least one state dict')
    first = states[0]
    for state in states[1:]:
        other = sorted({*first} ^ {*state})
        if other:
            raise UserError(
                f'the networks differ: only some have {few(other, 4)}. Average '
                'networks of one architecture'
            )
        for key, value in first.items():
            if state[key].shape != value.shape:
                raise UserError(
                    f'the networks have other widths: {key} is {tuple(value.shape)} '
                    f'and {tuple(state[key].shape)}. Average networks of one width'
                )


def _start(state: Mapping[str, Tensor], partition: Partition, network: str) -> str:
    """What precedes the names of the network in a checkpoint."""
    sign = f'{partition.stem[0]}.copies.rgb.'
    for key in state:
        start, found, _ = key.partition(sign)
        if found and (not start or start.endswith('.')):
            return start
    raise UserError(
        f'no weights {sign}* found, so this is no checkpoint of DualPathBackbone with '
        f'network={network!r}; it has {few(state, 4)}'
    )


def _require_row(inside: Mapping[str, Tensor], row: Partition, network: str) -> None:
    """Refuse a checkpoint whose paths are not those of the row."""
    there = {key.partition('.copies.')[0] for key in inside if '.copies.' in key}
    if there != {*row.paths}:
        missing, more = sorted({*row.paths} - there), sorted(there - {*row.paths})
        raise UserError(
            f'this checkpoint is of another network than {network!r}: of its two '
            f'paths, {missing or "none"} are missing and {more or "none"} are too many'
        )
    end = _below(inside, f'{row.paths[-1]}.copies.rgb.')
    # squeeze layers are narrower, and may have the width of another network
    outer = [v for k, v in end.items() if v.ndim and not re.search(r'(^|\.)se\.', k)]
    widths = {value.shape[0] for value in outer}
    wanted = row.channels[0]
    if not {wanted, wanted // 2} & widths:  # some blocks end by joining halves
        raise UserError(
            f'{row.paths[-1]} of {network!r} ends with {wanted} channels, here '
            f'it has layers of {sorted(widths)}: a network of another width'
        )
