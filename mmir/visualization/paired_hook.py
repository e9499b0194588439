"""Hook that draws ground truth and predictions on every modality."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmir.structures import ABSENT, IMAGES, PATHS
from mmir.visualization.pipeline_stages import images_of, load, pipelines

from .labeled import (
    PairStyle,
    has_labels,
    packed_images,
    resized,
    sample_row,
)
from .pairs import stacked

_TITLES = {'gt': 'truth', 'pred': 'found'}
_TRAIN_ROWS = 4  # samples of a training batch in one picture


@HOOKS.register_module()
class PairedVisualizationHook(Hook):
    """Draw ground truth and predictions on every modality, side by side.

    The images are read from `img_paths` in the metainfo, at their original resolution,
    converted to 8 bits and registered as in the dataset's pipeline. An absent modality
    is an empty panel. Boxes and masks are drawn by the host's visualizer (mmdet,
    mmseg). Samples of a single camera get one panel. Only the main process draws.

    In training, the packed images are shown before the data preprocessor: what the
    network sees, without normalization.

    Args:
        interval (int): Interval, in validation and test batches, at which the first
            sample of a batch is drawn.
        draw_train (int): Number of training batches to draw, starting with the first,
            up to 4 samples of each.
        score_thr (float): Predictions with a lower score are not drawn.
        modes (Sequence[str]): One or more of 'side-by-side', 'overlay', 'false-colour',
            'checkerboard'.
        colour_map (str): Palette of thermal images, one of
            :data:`mmir.visualization.color_maps.COLOR_MAPS`.
        out_dir (str, optional): Folder for PNG files `{train,val,test}/...`, below the
            work dir if relative. Default: the runner's visualizer stores the pictures
            in its backends, as `{train,val,test}_pairs`.

    Raises:
        ValueError: `interval` is not positive.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: int = 50,
        draw_train: int = 0,
        score_thr: float = 0.3,
        modes: Sequence[str] = ('side-by-side',),
        colour_map: str = 'white-hot',
        out_dir: str | None = None,
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval, self.draw_train, self.out_dir = interval, draw_train, out_dir
        self.style = PairStyle(modes, colour_map, score_thr=score_thr)
        self._left = draw_train

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Draw one of the first training batches.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch.
            data_batch (dict): `inputs` and `data_samples` as the loader yields them.
        """
        if self._left < 1 or not is_main_process():
            return
        self._left -= 1
        pairs = zip(data_batch['inputs'], data_batch['data_samples'], strict=True)
        rows = [
            sample_row(
                runner.visualizer,
                packed_images(inputs, sample.metainfo),
                sample,
                'gt',
                self.style,
                'input',
            )
            for inputs, sample in list(pairs)[:_TRAIN_ROWS]
        ]
        self._store(runner, 'train', f'{runner.iter:06d}', stacked(rows), runner.iter)

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | dict | None = None,
        mode: str = 'train',
    ) -> None:
        """Draw the first sample of every `interval`-th batch; mmengine calls it."""
        if mode != 'train':
            self._draw(runner, mode, batch_idx, outputs)

    def _draw(
        self,
        runner: Runner,
        phase: str,
        batch_idx: int,
        outputs: Sequence[BaseDataElement] | None,
    ) -> None:
        """Draw ground truth and predictions of the first output."""
        if batch_idx % self.interval or not outputs or not is_main_process():
            return
        sample = outputs[0].cpu()
        loader = runner.val_dataloader if phase == 'val' else runner.test_dataloader
        images = _read(sample, loader.dataset)
        if not images:  # the pipeline skips files that it cannot read
            return
        kinds = [kind for kind in ('gt', 'pred') if has_labels(sample, kind)]
        rows = [
            sample_row(
                runner.visualizer, images, sample, kind, self.style, _TITLES[kind]
            )
            for kind in kinds or ['gt']
        ]
        name = f'{batch_idx:05d}_{Path(sample.metainfo["img_path"]).stem}'
        # the same sample recurs with other modalities absent
        name += ''.join(f'_no-{gone}' for gone in sample.metainfo.get(ABSENT, ()))
        if phase == 'val':
            name = f'{runner.iter:06d}_{name}'
        self._store(runner, phase, name, stacked(rows), runner.iter + batch_idx)

    def _store(
        self, runner: Runner, phase: str, name: str, picture: np.ndarray, step: int
    ) -> None:
        """Write a picture, or pass it to the visualizer."""
        if self.out_dir is None:
            runner.visualizer.add_image(f'{phase}_pairs', picture, step)
            return
        folder = Path(runner.work_dir, self.out_dir, phase)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f'{name}.png'
        if not cv2.imwrite(str(path), picture[..., ::-1]):
            raise OSError(f'could not write the picture {path}')


def _read(sample: BaseDataElement, dataset: Any) -> dict[str, np.ndarray]:
    """Read the images of a sample, at the size its labels refer to."""
    meta = sample.metainfo
    info = {key: value for key, value in meta.items() if key not in (IMAGES, ABSENT)}
    if PATHS in meta:
        gone = meta.get(ABSENT, ())
        info[PATHS] = {
            name: None if name in gone else path for name, path in meta[PATHS].items()
        }
    # labels come from the sample; loading them needs more than the metainfo holds
    transforms = [
        transform
        for transform in next(pipelines(dataset), [])
        if not type(transform).__name__.startswith('LoadAnn')
    ]
    found = load(info, transforms)
    images = {} if found is None else images_of(found)
    return resized(images, tuple(meta['ori_shape'][:2]))
