"""`VIReIDInferencer`: find a person of one modality among images of the other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmpretrain.apis.base import BaseInferencer
from mmpretrain.structures import DataSample
from torch import Tensor

from mmir.data.images import list_images, read_image
from mmir.data.layouts.reid import MODALITIES
from mmir.evaluation import cosine_distances
from mmir.registry import MODELS, TRANSFORMS
from mmir.utils.checkpoint import load_checkpoint, weights_of
from mmir.utils.errors import UserError
from mmir.visualization.color_maps import to_display
from mmir.visualization.people import Match, save_ranked_figure

Image = str | Path | np.ndarray


class VIReIDInferencer(BaseInferencer):
    """Rank the images of a gallery for each query image.

    The features of the gallery are computed once. Files are read by the test pipeline
    of the config, so 16-bit images and Lanczos resizing are as in training. Arrays are
    (H, W, 3), uint8, BGR.

        find = VIReIDInferencer('config.py', 'model.pth', gallery='rgb_images')
        matches = find('infrared.jpg', topk=5, show_dir='found')[0]
        matches[0]  # dict(match_score=0.81, sample_idx=17, sample=dict(img_path=...))

    Args:
        model (str | Config | BaseModel): Config, or a model with its config in
            `_config` or `cfg`.
        pretrained (str, optional): Checkpoint. None is for models that have their
            weights.
        gallery (str | Path | Sequence): Folder with images, subfolders included, or a
            list of images.
        gallery_modality (str): 'rgb' or 'ir'; queries are of the other one.
        batch_size (int): Batch size for the gallery.
        device (str | torch.device, optional): Default: a GPU if there is one.

    Raises:
        UserError: The checkpoint is missing or does not fit, or the modality is
            unknown.
        FileNotFoundError: The gallery has no images.
    """

    visualize_kwargs = {'topk', 'show_dir'}
    postprocess_kwargs = {'topk'}

    def __init__(
        self,
        model: str | Path | Config | BaseModel,
        pretrained: str | Path | None = None,
        *,
        gallery: str | Path | Sequence[Image],
        gallery_modality: str = 'rgb',
        batch_size: int = 32,
        device: str | torch.device | None = None,
    ) -> None:
        if gallery_modality not in MODALITIES:
            raise UserError(
                f'gallery_modality={gallery_modality!r}: choose one of {MODALITIES}'
            )
        built = _built(model, pretrained)
        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        super().__init__(built, pretrained=False, device=device)
        self.gallery_modality = gallery_modality
        (self.query_modality,) = {*MODALITIES} - {gallery_modality}
        self.gallery = self._inputs_to_list(gallery)
        batches = self.preprocess(self.gallery, batch_size, modality=gallery_modality)
        features = [self._features(batch) for batch in batches]
        self.gallery_features = torch.cat(features)

    def __call__(
        self,
        inputs: str | Path | np.ndarray | Sequence[Image],
        return_datasamples: bool = False,
        batch_size: int = 1,
        topk: int = 10,
        show_dir: str | Path | None = None,
    ) -> Any:
        """Rank the gallery.

        Args:
            inputs (str | Path | np.ndarray | Sequence): Query image, several, or a
                folder of them.
            return_datasamples (bool): Return samples with `feature` and `pred_score`,
                the cosine similarity to each gallery image (G,).
            batch_size (int): Batch size.
            topk (int): Number of matches.
            show_dir (str | Path, optional): Folder for a picture per query, with the
                matches in order.

        Returns:
            list[list[dict]]: Per query its matches, best first: `match_score` (cosine
            similarity), `sample_idx` (place in the gallery) and `sample`, which holds
            `img_path` unless the gallery was given as arrays.

        Raises:
            UserError: `topk` is not positive, or no images are given.
            FileNotFoundError: A folder holds no images.
        """
        if topk < 1:
            raise UserError(f'topk={topk}: must be at least 1')
        topk = min(topk, len(self.gallery))
        options = dict(topk=topk, show_dir=show_dir)
        return super().__call__(inputs, return_datasamples, batch_size, **options)

    def _inputs_to_list(self, inputs: Any) -> list[Image]:
        """List the images of a folder, or what was given."""
        if isinstance(inputs, str | Path) and Path(inputs).is_dir():
            inputs = [Path(inputs) / path for path in list_images(inputs)]
        elif not isinstance(inputs, list | tuple):
            inputs = [inputs]
        if not len(inputs):
            raise UserError('no images were given')
        return list(inputs)

    def _init_pipeline(self, cfg: Config) -> Callable:
        """Build the test pipeline; arrays skip its loader."""
        steps = list(cfg.test_dataloader.dataset.pipeline)
        load = [k for k, step in enumerate(steps) if str(step['type']).count('Load')]
        if load != [0]:
            raise UserError(
                'the test pipeline must begin with the one transform that loads images'
            )
        with DefaultScope.overwrite_default_scope(_scope(cfg)):
            from_file, *rest = (TRANSFORMS.build(step) for step in steps)
        from_array = Compose(rest)

        def run(image: Image, modality: str) -> dict:
            info = dict(modality=modality)
            if isinstance(image, np.ndarray):
                _check(image)
                shape = image.shape[:2]
                info |= dict(img=image, img_shape=shape, ori_shape=shape)
                return from_array(info)
            return from_array(from_file(info | dict(img_path=str(image))))

        return run

    def preprocess(
        self, inputs: list[Image], batch_size: int = 1, modality: str | None = None
    ) -> Any:
        """Yield batches; the default modality is that of the queries."""
        given = modality or self.query_modality
        run = self.pipeline
        self.pipeline = lambda image: run(image, given)
        try:
            yield from super().preprocess(inputs, batch_size)
        finally:
            self.pipeline = run

    @torch.no_grad()
    def _features(self, batch: dict) -> Tensor:
        """Features (N, C) of a batch."""
        return torch.stack([s.feature for s in self.model.test_step(batch)])

    @torch.no_grad()
    def forward(self, inputs: dict) -> list[DataSample]:
        """Compute features and similarities.

        Args:
            inputs (dict): Batch.

        Returns:
            list[DataSample]: Samples with `pred_score` (G,) besides.
        """
        samples = self.model.test_step(inputs)
        features = torch.stack([sample.feature for sample in samples])
        scores = -cosine_distances(features, self.gallery_features)
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score.contiguous())
        return samples

    def visualize(
        self,
        inputs: list[Image],
        preds: list[DataSample],
        topk: int = 10,
        show_dir: str | Path | None = None,
    ) -> list[Path] | None:
        """Draw each query and its matches.

        Args:
            inputs (list): Query images.
            preds (list[DataSample]): What :meth:`forward` returned.
            topk (int): Number of matches.
            show_dir (str | Path, optional): Folder to write to; None draws nothing.

        Returns:
            list[Path], optional: The pictures.
        """
        if show_dir is None:
            return None
        written, used = [], set()
        for number, (image, sample) in enumerate(zip(inputs, preds, strict=True)):
            name = str(number) if isinstance(image, np.ndarray) else Path(image).stem
            name = f'{name}_{number}' if name in used else name
            used.add(name)
            scores, places = sample.pred_score.topk(topk)
            pairs = zip(scores.tolist(), places.tolist(), strict=True)
            matches = [
                Match(_shown(self.gallery[k]), f'{score:.3f}') for score, k in pairs
            ]
            path = Path(show_dir) / f'{name}.png'
            save_ranked_figure(path, [(Match(_shown(image)), matches)])
            written.append(path)
        return written

    def postprocess(
        self,
        preds: list[DataSample],
        visualization: list[Path] | None,
        return_datasamples: bool = False,
        topk: int = 10,
    ) -> Any:
        """List the matches.

        Args:
            preds (list[DataSample]): What :meth:`forward` returned.
            visualization (list[Path], optional): Unused.
            return_datasamples (bool): Return `preds` as they are.
            topk (int): Number of matches.

        Returns:
            list: See :meth:`__call__`.
        """
        if return_datasamples:
            return preds
        found = []
        for sample in preds:
            scores, places = (x.tolist() for x in sample.pred_score.topk(topk))
            pairs = zip(scores, places, strict=True)
            found.append([self._match(score, place) for score, place in pairs])
        return found

    def _match(self, score: float, place: int) -> dict[str, Any]:
        """Entry of a gallery image in a result."""
        image = self.gallery[place]
        sample = {} if isinstance(image, np.ndarray) else dict(img_path=str(image))
        return dict(match_score=score, sample_idx=place, sample=sample)


def _check(image: np.ndarray) -> None:
    """Refuse an array that is no image of 8 bits and three channels."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f'arrays must be (H, W, 3), uint8, BGR, got {image.shape}, {image.dtype}; '
            'for other images, pass the file'
        )


def _scope(cfg: Config) -> str:
    """Scope that the names of a config are looked up in."""
    return cfg.get('default_scope', 'mmpretrain')


def _shown(image: Image) -> np.ndarray:
    """Picture (H, W, 3), uint8, RGB."""
    return to_display(image if isinstance(image, np.ndarray) else read_image(image))


def _built(
    model: str | Path | Config | BaseModel, checkpoint: str | Path | None
) -> BaseModel:
    """Build a model with its weights and its config in `_config`."""
    if isinstance(model, BaseModel):
        cfg = getattr(model, '_config', None) or getattr(model, 'cfg', None)
        if cfg is None:
            raise UserError("set the model's config as attribute `_config`")
    elif checkpoint is None:
        raise UserError('name the checkpoint: without it, the weights are random')
    else:
        cfg = model if isinstance(model, Config) else Config.fromfile(model)
        with DefaultScope.overwrite_default_scope(_scope(cfg)):
            model = MODELS.build(cfg.model)
    if checkpoint is not None:
        weights = weights_of(load_checkpoint(checkpoint), checkpoint)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f'{checkpoint} does not fit the config: {error}') from error
    model._config = cfg
    return model
