"""Batches of paired samples, and single modalities for the stock preprocessors."""

from collections.abc import Callable

import torch

from mmir.structures import split_modalities

ROWS = dict(
    rgb=dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True),
    ir=dict(mean=[99.5], std=[41.0], channels=1),
    nir=dict(mean=[90.0, 91.0, 92.0], std=[40.0, 41.0, 42.0]),
)
META = dict(modalities=('rgb', 'ir', 'nir'), channels=(3, 1, 3), absent=())


def batch(sizes: list[tuple[int, int]], sample: Callable[[dict], object]) -> dict:
    """Random images of these sizes; `sample` makes a data sample of its metadata."""
    generator = torch.Generator().manual_seed(0)
    return dict(
        inputs=[
            torch.randint(0, 256, (7, *size), generator=generator, dtype=torch.uint8)
            for size in sizes
        ],
        data_samples=[
            sample(META | dict(img_shape=size, ori_shape=size)) for size in sizes
        ],
    )


def part(data: dict, name: str) -> dict:
    """One modality of a batch."""
    return data | dict(inputs=[split_modalities(x, META)[name] for x in data['inputs']])


def same_pattern(inputs: torch.Tensor) -> bool:
    """Whether rgb and nir of a batch are alike."""
    return torch.equal(inputs[:, :3], inputs[:, 4:])


def twins(data: dict) -> dict:
    """The batch with the rgb image as nir, too."""
    inputs = [torch.cat([x[:4], x[:3]]) for x in data['inputs']]
    return data | dict(inputs=inputs)
