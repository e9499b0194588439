"""Panels of ground truth and detections on images of the test set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from mmir.data.images import read_image
from mmir.visualization import Panel
from mmir.visualization.color_maps import to_display


def detection_panels(
    config: Config, checkpoint: str | Path, indices: Sequence[int], title: str
) -> list[list[Panel]]:
    """Predict on some test images.

    Per image, as many of the highest-scoring detections are kept as there are objects:
    after a short training a model is right long before it is confident.

    Args:
        config (Config): Config of an mmdet detector.
        checkpoint (str | Path): Weights of the detector.
        indices (Sequence[int]): Indices of images in the test set.
        title (str): Title above the detections.

    Returns:
        list[list[Panel]]: Ground truth and detections per image.
    """
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS, MODELS, init_default_scope

    from mmir.utils.checkpoint import load_checkpoint, weights_of

    init_default_scope(config.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(config.test_dataloader.dataset)
    model = MODELS.build(config.model).eval()
    model.load_state_dict(weights_of(load_checkpoint(checkpoint), checkpoint))
    rows = []
    for index in indices:
        batch = pseudo_collate([dataset[index]])
        with torch.inference_mode():
            sample = model.test_step(batch)[0]
        info = dataset.get_data_info(index)
        image = _read(info['img_path'])
        truth = np.array([i['bbox'] for i in info['instances']]).reshape(-1, 4)
        labels = np.array([i['bbox_label'] for i in info['instances']], dtype=int)
        # sorted by score
        found = sample.pred_instances[: max(1, len(truth))].cpu().numpy()
        rows.append(
            [
                Panel(
                    image,
                    truth,
                    labels,
                    title=f'ground truth, {Path(info["img_path"]).name}',
                ),
                Panel(image, found.bboxes, found.labels, found.scores, title=title),
            ]
        )
    return rows


def _read(path: str) -> np.ndarray:
    """Read an image for display, as the dataset reads it: RGB order, 8 bits."""
    return to_display(read_image(path))
