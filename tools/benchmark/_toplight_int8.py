"""Features of the networks of both cameras in 8 bits, in onnxruntime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _vireid_tasks import HEIGHT, WIDTH
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor

from mmir.data.layouts.reid import PersonImage
from mmir.reid import VIReID
from mmir.reid.onnx_export import (
    calibration_images,
    export_onnx,
    network_input,
    quantize_onnx,
    session_of,
)

CALIBRATED = 100
"""Training images of a modality that the ranges are measured on."""
INT8 = {'int8, all': 0, 'int8': 6}
"""Name -> convolutions from the input on that stay in float32."""


def int8_features(
    model: VIReID, cfg: Config, images: Sequence[PersonImage], folder: Path, skip: int
) -> Tensor:
    """Compute the features of test images.

    Args:
        model: Trained model.
        cfg: Config of its training and test.
        images: Test images (N,), as in the dataset of the test.
        folder: Where files are written, and removed again.
        skip: Convolutions from the input on that stay in float32.

    Returns:
        Tensor: Features (N, C), float32.
    """
    sessions = {}
    for modality in ('rgb', 'ir'):
        path = folder / f'{modality}.onnx'
        export_onnx(model, path, modality, (HEIGHT, WIDTH))
        ranges = calibration_images(cfg, modality, CALIBRATED)
        quantize_onnx(path, path, ranges, skip)
        sessions[modality] = session_of(path)
        path.unlink()
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    features = [
        sessions[image.modality].run(
            None, dict(images=network_input(dataset[k]['inputs']))
        )[0][0]
        for k, image in enumerate(images)
    ]
    return torch.from_numpy(np.stack(features))
