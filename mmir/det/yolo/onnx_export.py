"""ONNX export of YOLO detectors, compared with PyTorch before the file is written."""

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmir.det.yolo.onnx_check import Comparison, compare
from mmir.det.yolo.onnx_graph import rename, trace
from mmir.det.yolo.onnx_nms import append_nms, check_test_cfg
from mmir.utils.files import write_bytes
from mmir.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto

    from mmir.det.yolo.detector import YOLODetector


@dataclass(frozen=True)
class Settings:
    """Settings of the ONNX export.

    Attributes:
        size (tuple[int, int]): Height and width of the input, multiples of 32.
        nms (bool): Whether the model includes NMS.
        dynamic (bool): Allow any batch size, and any height and width divisible by 32.
        classes (sequence of str): Class names, for the metadata.
    """

    size: tuple[int, int] = (640, 640)
    nms: bool = False
    dynamic: bool = False
    classes: Sequence[str] = ()


def export_onnx(
    model: 'YOLODetector', path: str | os.PathLike, settings: Settings
) -> Comparison:
    """Export a detector to one ONNX file, after comparing it with PyTorch.

    The input is `images` (N, 3, H, W), float32, 0 to 255, in the color order named in
    the metadata. Resizing and padding are up to the user; normalization is part of the
    model. The outputs are `boxes` (N, B, 4), xyxy in pixels of the input, and `scores`
    (N, B, C), or with NMS those of `append_nms`.

    Args:
        model (YOLODetector): Detector. It is not modified.
        path (str | PathLike): Output file, written only if the comparison succeeds.
        settings (Settings): Settings of the export.

    Returns:
        Comparison: The differences from PyTorch.

    Raises:
        ImportError: A package of the extra `deploy` is missing.
        ValueError: The size is not a multiple of 32, `test_cfg` cannot be exported, the
            classes do not fit the model, or the results differ from PyTorch. No file is
            written, and an existing one is kept.
    """
    _require('onnx', 'onnxscript', 'onnxruntime')
    _check(model, settings)
    model = copy.deepcopy(model).cpu().float().eval()
    raw = trace(copy.deepcopy(model).to_deploy(), settings.size, settings.dynamic)
    _describe(raw, model, settings)
    final = copy.deepcopy(raw)
    if settings.nms:
        rename(final, dict(boxes='all_boxes', scores='all_scores'))
        append_nms(final, model.bbox_head.test_cfg)
    found = compare(model, raw, final if settings.nms else None, _inputs(settings))
    if not found.good:
        raise ValueError(
            f'{path} is not written, because it differs from PyTorch: {found}'
        )
    write_bytes(final.SerializeToString(), Path(path))
    return found


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ImportError(
            f'ONNX export needs {", ".join(missing)}: `pip install "openmmir[deploy]"`'
        )


def _check(model: 'YOLODetector', settings: Settings) -> None:
    """Raise an error for invalid settings."""
    if any(side < 32 or side % 32 for side in settings.size):
        raise ValueError(
            f'height and width must be multiples of 32, not {settings.size}'
        )
    count = model.bbox_head.num_classes
    if settings.classes and len(settings.classes) != count:
        raise ValueError(
            f'{len(settings.classes)} class names {tuple(settings.classes)}, but the '
            f'model has {count} classes'
        )
    if settings.nms:
        check_test_cfg(model.bbox_head.test_cfg)


def _inputs(settings: Settings) -> list[Tensor]:
    """Draw smooth random images, for a dynamic export also of another shape."""
    height, width = settings.size
    shapes = [(1, height, width)]
    if settings.dynamic:
        shapes.append((2, height + 32, width + 64))
    generator = torch.Generator().manual_seed(0)
    return [
        nn.functional.interpolate(
            torch.rand(n, 3, h // 16, w // 16, generator=generator) * 255,
            (h, w),
            mode='bilinear',
        )
        for n, h, w in shapes
    ]


def _describe(proto: 'ModelProto', model: 'YOLODetector', settings: Settings) -> None:
    """Add what users of the file need to know to its metadata, as JSON values."""
    head, prepare = model.bbox_head, model.data_preprocessor
    count = head.num_classes
    facts = dict(
        producer=f'mmir {__version__}',
        classes=list(settings.classes) or [str(i) for i in range(count)],
        strides=head.strides,
        anchors=head.anchors.tolist(),
        input='images: float32, (N, 3, H, W), 0 to 255, H and W divisible by 32',
        # image files are read as BGR, and the preprocessor may convert them
        channels='RGB' if getattr(prepare, '_channel_conversion', False) else 'BGR',
        boxes='x1, y1, x2, y2 in pixels of the input',
        nms=dict(head.test_cfg, nms=dict(head.test_cfg.nms)) if settings.nms else None,
    )
    if getattr(prepare, '_enable_normalize', False):
        pad = prepare.pad_value * prepare.std + prepare.mean
        facts['pad_value'] = [round(v, 3) for v in pad.flatten().tolist()]
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
