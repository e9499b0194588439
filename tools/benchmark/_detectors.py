"""YOLOv7 adapted with each method, optimizers per precision, and random batches."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmir.adapters import Method, adapt_
from mmir.cli.stages import ROOT
from mmir.peft import BitFit, ConvLoRA, Frozen, Full
from mmir.tensorfact import TensorFact

METHODS: dict[str, Callable[[], Method]] = {
    'Full': Full,
    'TensorFact': partial(TensorFact, rank=8, delta=1),
    'ConvLoRA': partial(ConvLoRA, rank=12),
    'BitFit': BitFit,
    'Frozen': Frozen,
}
"""Name -> factory of the method, with the rank of its shipped config."""

MERGING = ('TensorFact', 'ConvLoRA')
"""Methods whose layers can be merged."""

CLASSES = 3

_WRAPPERS: dict[str, dict[str, Any]] = {
    'fp32': dict(type='OptimWrapper'),
    'bf16': dict(type='AutocastOptimWrapper'),
    'fp16': dict(
        type='AmpOptimWrapper', dtype='float16', loss_scale=dict(init_scale=4096.0)
    ),
}
PRECISIONS = tuple(_WRAPPERS)


def detector(arch: str) -> nn.Module:
    """Build a YOLOv7 with random weights on the CPU."""
    from mmir.det.yolov7.arch import get_arch

    cfg = Config.fromfile(ROOT / 'configs/_base_/models/yolov7_l.py')
    cfg.model.backbone.arch = cfg.model.neck.arch = arch
    cfg.model.bbox_head.head_module.update(
        in_channels=get_arch(arch).out, num_classes=CLASSES
    )
    init_default_scope('mmdet')
    return MODELS.build(cfg.model)


def adapted(model: nn.Module, method: str) -> nn.Module:
    """Return an adapted copy of a plain model."""
    model = copy.deepcopy(model)
    adapt_(model, METHODS[method]())
    return model


def optim_wrapper(model: nn.Module, precision: str) -> OptimWrapper:
    """Build AdamW with weight decay for the trainable parameters of a model."""
    return build_optim_wrapper(
        model,
        dict(
            **_WRAPPERS[precision],
            constructor='CompleteOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        ),
    )


def batch(images: int, size: int, device: str, boxes: int = 8) -> dict[str, Any]:
    """Random square images of `size` pixels with `boxes` boxes each, on a device."""
    from mmdet.structures import DetDataSample

    draw = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(images):
        corner = torch.rand(boxes, 2, generator=draw) * size * 0.6
        side = size * (0.1 + 0.3 * torch.rand(boxes, 2, generator=draw))
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + side], dim=1),
            labels=torch.randint(CLASSES, (boxes,), generator=draw),
        )
        samples.append(sample.to(device))
    pixels = torch.randint(
        256, (images, 3, size, size), generator=draw, dtype=torch.uint8
    )
    return dict(inputs=list(pixels.to(device)), data_samples=samples)


def resident_bytes(model: nn.Module, optimizer: OptimWrapper) -> int:
    """Bytes of the weights, the buffers and the optimizer state."""
    state = (v for s in optimizer.optimizer.state.values() for v in s.values())
    held = (*model.parameters(), *model.buffers(), *state)
    return sum(
        t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor)
    )
