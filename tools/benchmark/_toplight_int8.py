"""The networks of both cameras in 8 bits, in onnxruntime, beside float32."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _vireid_runs import ranked
from _vireid_tasks import HEIGHT, WIDTH
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor
from torch.nn.functional import cosine_similarity

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


def int8_results(
    model: VIReID,
    cfg: Config,
    images: Sequence[PersonImage],
    protocols: Sequence[Any],
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Test a model in both forms of int8.

    Args:
        model: Trained model.
        cfg: Config of its training and test.
        images: Test images (N,), as in the dataset of the test.
        protocols: Of the test.
        folder: Where files are written, and removed again.

    Returns:
        dict: Measures of each form, and under `cosines` its mean cosine with the
            feature in float32 of the same image.
    """
    exact, *others = all_features(model, cfg, images, folder)
    rough = dict(zip(INT8, others, strict=True))
    cosines = {k: float(cosine_similarity(v, exact).mean()) for k, v in rough.items()}
    measures = {k: ranked(v, images, protocols) for k, v in rough.items()}
    return dict(measures, cosines=cosines)


def all_features(
    model: VIReID, cfg: Config, images: Sequence[PersonImage], folder: Path
) -> list[Tensor]:
    """Compute the features of images in float32 and in each form of int8.

    Returns:
        list[Tensor]: Features (N, C), float32.
    """
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    inputs = [network_input(dataset[k]['inputs']) for k in range(len(images))]
    features: list[list] = [[None] * len(images) for _ in range(1 + len(INT8))]
    for modality in ('rgb', 'ir'):
        exact, rough = folder / f'{modality}.onnx', folder / f'{modality}_int8.onnx'
        export_onnx(model, exact, modality, (HEIGHT, WIDTH))
        sessions = [session_of(exact)]
        for skip in INT8.values():
            ranges = calibration_images(cfg, modality, CALIBRATED)
            quantize_onnx(exact, rough, ranges, skip)
            sessions.append(session_of(rough))
            rough.unlink()
        exact.unlink()
        for k, image in enumerate(images):
            if image.modality == modality:
                for own, session in zip(features, sessions, strict=True):
                    own[k] = session.run(None, dict(images=inputs[k]))[0][0]
    return [torch.from_numpy(np.stack(own)) for own in features]
