"""ONNX export of CSK-Net for any set of cameras, compared with PyTorch."""

import copy
import json
import os
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from torch import Tensor, nn

from mmir.layers.modality_shared import exchanging_norms
from mmir.layers.presence import Presence
from mmir.utils.errors import UserError
from mmir.utils.files import write_bytes
from mmir.version import __version__

from .segmentor import CSKNet

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
LIMIT = 1e-4
"""Accepted difference of the logits, relative to the largest."""


class Exportable(nn.Module):
    """CSK-Net for images of fixed modalities, with normalization and final resize.

    Args:
        model (CSKNet): The network. It is not modified.
        modalities (Sequence[str]): Cameras that will be there.

    Raises:
        UserError: Unknown modality, or none.
    """

    def __init__(self, model: CSKNet, modalities: Sequence[str]) -> None:
        super().__init__()
        if not modalities or (unknown := {*modalities} - {*model.modalities}):
            raise UserError(
                f'modalities {sorted(unknown) if modalities else "()"} cannot be '
                f'exported: choose some of {[*model.modalities]}'
            )
        self.model, prepare = model, model.data_preprocessor
        self.names = tuple(name for name in model.modalities if name in modalities)
        kept = [model.modalities.index(name) for name in self.names]
        for key in ('channel_mean', 'channel_std'):
            parts = getattr(prepare, key).chunk(len(model.modalities))
            self.register_buffer(key, torch.cat([parts[k] for k in kept]))

    @property
    def orders(self) -> list[str]:
        """Color order of each image."""
        prepare = self.model.data_preprocessor
        swaps = dict(zip(prepare.modalities, prepare._swaps, strict=True))
        return ['RGB' if swaps[name] else 'BGR' for name in self.names]

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: Shape (1, 3 k, H, W), the k modalities along the channels, 0 to 255.

        Returns:
            Shape (1, classes, H, W).
        """
        model, head = self.model, self.model.decode_head
        images = (images - self.channel_mean) / self.channel_std
        parts = dict(zip(self.names, images.chunk(len(self.names), 1), strict=True))
        presence = Presence.of(model.modalities, 1, only=self.names)
        encoder = partial(EncoderDecoder.extract_feat, model)
        decoded = head(model.route.run(encoder, parts, presence), presence)
        return resize(
            head.merged(decoded, presence),
            size=images.shape[2:],
            mode='bilinear',
            align_corners=head.align_corners,
        )


def export_onnx(
    model: CSKNet,
    path: str | os.PathLike,
    modalities: Sequence[str] | None = None,
    size: tuple[int, int] = (480, 640),
    classes: Sequence[str] = (),
) -> float:
    """Export a CSK-Net to one ONNX file, after comparing it with PyTorch.

    The input is `images` (1, 3 k, H, W), float32, 0 to 255, with the channels of the k
    modalities in the order of the metadata. The output is `logits` (1, classes, H, W).

    Args:
        model (CSKNet): The network. It is not modified.
        path (str | PathLike): Output file, written only if the comparison succeeds.
        modalities (Sequence[str], optional): Cameras that will be there. Default: all.
            With one, the file holds the plain network of that camera.
        size (tuple[int, int]): Height and width of the images.
        classes (Sequence[str]): Class names, for the metadata.

    Returns:
        float: Largest difference of the logits from PyTorch, relative to the largest
        logit.

    Raises:
        ImportError: A package of the extra `deploy` is missing.
        UserError: An unknown modality, a size below 32, a wrong number of class names,
            or the results differ from PyTorch. No file is written then.
    """
    _require('onnx', 'onnxscript', 'onnxruntime')
    if min(size) < 32:
        raise UserError(f'height and width must be at least 32, got {tuple(size)}')
    count = model.decode_head.num_classes
    if classes and len(classes) != count:
        raise UserError(f'{len(classes)} class names for a model of {count} classes')
    model = copy.deepcopy(model).cpu().float()
    model.teacher = model.contrast = None
    _fix_exchange_(model)
    network = Exportable(model, modalities or model.modalities).eval()
    if len(network.names) == 1:  # for good: the model is a copy
        model.solo_statistics.alone(model, network.names[0]).__enter__()
    proto = _trace(network, size)
    facts = dict(
        producer=f'mmir {__version__}',
        classes=list(classes) or [str(k) for k in range(count)],
        modalities=list(network.names),
        channels=network.orders,
        input='images: float32, (1, 3 k, H, W), 0 to 255, of k modalities',
    )
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
    gap = compare(network, proto, size)
    if not gap <= LIMIT:  # also if it is NaN
        raise UserError(
            f'{path} is not written, because it differs from PyTorch by {gap:.2g} of '
            f'the largest logit (accepted: {LIMIT:g})'
        )
    write_bytes(proto.SerializeToString(), Path(path))
    return gap


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ImportError(
            f'ONNX export needs {", ".join(missing)}: `pip install "openmmir[deploy]"`'
        )


def _fix_exchange_(model: CSKNet) -> None:
    """Make the channels that are exchanged constants, in place.

    They depend on weights only, and ONNX has no stable sorting for the quantile.
    """
    for _, norm in exchanging_norms(model):
        norm.masks = partial(list, norm.masks())


def _trace(network: Exportable, size: tuple[int, int]) -> 'ModelProto':
    """Convert the network to an ONNX model with `images` and `logits`."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # from inside torch
        program = torch.onnx.export(
            network,
            (torch.zeros(1, 3 * len(network.names), *size),),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=['images'],
            output_names=['logits'],
            verbose=False,
        )
    return program.model_proto


@torch.no_grad()
def compare(network: Exportable, proto: 'ModelProto', size: tuple[int, int]) -> float:
    """Largest difference of the logits on a smooth random image, relative to them."""
    import onnxruntime

    channels, generator = 3 * len(network.names), torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, *(n // 16 for n in size), generator=generator)
    images = nn.functional.interpolate(coarse * 255, size, mode='bilinear')
    expected = network(images)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings about optimizations
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    found = torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
    return ((found - expected).abs().max() / expected.abs().max()).item()
