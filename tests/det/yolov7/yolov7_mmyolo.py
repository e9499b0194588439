"""MMYOLO, used through its public classes, as a second implementation of YOLOv7.

It is licensed under the GPL: nothing of it is part of this project, and these tests run
only where somebody has installed it.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmcv
import torch
import yolov7_reference as ref
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from yolov7_oracle import TEST, LossCase, Project

from mmir.det.yolov7.convert import convert, export_names

AVAILABLE = find_spec('mmyolo') is not None
TERMS = {'loss_bbox': 'loss_box', 'loss_obj': 'loss_obj', 'loss_cls': 'loss_cls'}


def _import() -> Any:
    """Import MMYOLO 0.6.0, which refuses the versions of mmcv it works with."""
    version, mmcv.__version__ = mmcv.__version__, '2.0.1'
    try:
        import mmyolo.models
    finally:
        mmcv.__version__ = version
    return mmyolo


class MMYOLO:
    """MMYOLO with the weights of the project, through the converter."""

    def network(self, arch: str, classes: int, dtype: torch.dtype) -> nn.Module:
        ours = Project().network(arch, classes, dtype).state_dict()
        cfg = self._cfg(arch, classes)
        network = self._build(cfg).to(dtype)
        network.load_state_dict(export_names(ours, arch, 'mmyolo'))
        return network.eval()

    def maps(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        found = network.bbox_head(network.extract_feat(images))
        return [_join(*level) for level in zip(*found, strict=True)]

    def head(self, arch: str, classes: int) -> nn.Module:
        cfg = self._cfg(arch, classes)
        return self._build({**cfg.bbox_head, 'test_cfg': ConfigDict(TEST)})

    def losses(
        self, head: nn.Module, maps: list[Tensor], case: LossCase
    ) -> dict[str, Tensor]:
        gts = [ref.instances(boxes) for boxes in case.images]
        parts = zip(*(_split(m) for m in maps), strict=True)
        losses = head.loss_by_feat(*map(list, parts), gts, _metas(case.size, len(gts)))
        return {ours: losses[theirs] for theirs, ours in TERMS.items()}

    def matches(
        self, head: nn.Module, maps: list[Tensor], case: LossCase
    ) -> list[tuple]:
        seen = []
        hook = head.assigner.register_forward_hook(lambda *a: seen.append(a[-1]))
        self.losses(head, maps, case)
        hook.remove()
        height, width = case.size
        scale = torch.tensor([width, height, width, height])
        found = []
        for result in seen:
            for level, places in enumerate(result['mlvl_positive_infos']):
                if not len(places):
                    continue
                targets = result['mlvl_targets_normed'][level]
                boxes = (targets[:, 2:6] * scale).tolist()
                found += [
                    (level, *place, tuple(box))
                    for place, box in zip(places.tolist(), boxes, strict=True)
                ]
        return found

    def predict(
        self, head: nn.Module, maps: list[Tensor], size: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        parts = zip(*(_split(m) for m in maps), strict=True)
        metas = _metas(size, len(maps[0]))
        found = head.predict_by_feat(*map(list, parts), metas, rescale=False)
        return [(r.bboxes, r.scores, r.labels) for r in found]

    def gradients(self, network: nn.Module, arch: str) -> dict[str, Tensor]:
        # gradients take the way of weights, through the converter
        like = network.state_dict()
        named = {k: p.grad for k, p in network.named_parameters()}
        back = convert({**like, **named}, arch).state_dict
        wanted = Project().parameter_names(arch)
        return {k: v for k, v in back.items() if k in wanted}

    def _cfg(self, arch: str, classes: int) -> ConfigDict:
        folder = Path(_import().__file__).parent / '.mim/configs/yolov7'
        name = f'yolov7_{arch}_syncbn_fast_8x16b-300e_coco.py'
        cfg = Config.fromfile(folder / name).model
        cfg.bbox_head.head_module.num_classes = classes
        # its configs scale this weight by the classes, when they are written
        cfg.bbox_head.loss_cls.loss_weight *= classes / 80
        return cfg

    def _build(self, cfg: dict) -> nn.Module:
        from mmyolo.registry import MODELS

        with DefaultScope.overwrite_default_scope('mmyolo'):
            return MODELS.build(cfg)


def _metas(size: tuple[int, int], count: int) -> list[dict]:
    shapes = dict.fromkeys(('batch_input_shape', 'img_shape', 'ori_shape'), size)
    return [dict(shapes, scale_factor=(1, 1), pad_param=None)] * count


def _split(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split a raw map into class, box and objectness maps."""
    view = raw.unflatten(1, (3, -1))
    parts = view[:, :, 5:], view[:, :, :4], view[:, :, 4:5]
    return tuple(p.flatten(1, 2) for p in parts)


def _join(cls: Tensor, box: Tensor, obj: Tensor) -> Tensor:
    """Join the three into a raw map."""
    parts = (p.unflatten(1, (3, -1)) for p in (box, obj, cls))
    return torch.cat(list(parts), dim=2).flatten(1, 2)
