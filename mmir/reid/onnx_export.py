"""A model of re-identification as ONNX, for the camera of one modality, also int8."""

import copy
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor, nn

from mmir.layers.modality_norm import PerModality
from mmir.utils.errors import UserError
from mmir.utils.files import write_bytes
from mmir.version import __version__

from .backbones.two_stem import MODALITIES, TwoStemBackbone
from .mirrored import MirroredVIReID
from .vireid import VIReID

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

OPSET = 18
LIMIT = 1e-3
"""Largest accepted difference of a feature from PyTorch, relative to its norm."""


class OneCamera(nn.Module):
    """Network of the images of one modality, with the normalization inside.

    Args:
        model (VIReID): Model whose backbone is a `TwoStemBackbone`. It is copied.
        modality (str): 'rgb' or 'ir'.

    Raises:
        UserError: The modality is unknown, or it is another model.
    """

    def __init__(self, model: VIReID, modality: str) -> None:
        super().__init__()
        if modality not in MODALITIES:
            raise UserError(f'modality={modality!r}: choose one of {MODALITIES}')
        known = isinstance(model, VIReID) and type(model.backbone) is TwoStemBackbone
        if not known:
            raise UserError(
                'only a mmir.VIReID with a mmir.TwoStemBackbone can be exported, not a '
                f'{type(model).__name__}'
            )
        model = copy.deepcopy(model).cpu().float().eval()
        self.backbone = model.backbone.backbone
        for name, layer in [*self.backbone.named_modules()]:
            if isinstance(layer, PerModality):
                self.backbone.set_submodule(name, layer.copies[modality])
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.norm = model.head.bn
        self.mirrored = isinstance(model, MirroredVIReID)
        preprocessor = model.data_preprocessor
        self.register_buffer('mean', preprocessor.mean.reshape(1, 3, 1, 1))
        self.register_buffer('std', preprocessor.std.reshape(1, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            images (Tensor): RGB images (N, 3, H, W), float32, 0 to 255.

        Returns:
            Tensor: Features (N, C) after the BNNeck.
        """
        images = (images - self.mean) / self.std
        feature = self._feature(images)
        return feature + self._feature(images.flip(-1)) if self.mirrored else feature

    def _feature(self, images: Tensor) -> Tensor:
        return self.norm(self.neck(self.backbone(images))[-1])


def export_onnx(
    model: VIReID, path: str | os.PathLike[str], modality: str, size: tuple[int, int]
) -> float:
    """Write the network of one camera: a batch of one image to its feature.

    The file is compared with PyTorch in onnxruntime, on a random image.

    Args:
        model (VIReID): See :class:`OneCamera`.
        path (str | PathLike): File to write, only if the comparison succeeds.
        modality (str): 'rgb' or 'ir'.
        size (tuple[int, int]): Height and width of the image in px.

    Returns:
        float: Difference of the feature from PyTorch, relative to its norm.

    Raises:
        ImportError: A package of the extra `deploy` is missing.
        UserError: The model or the modality does not fit, or the features differ.
    """
    missing = [n for n in ('onnx', 'onnxscript', 'onnxruntime') if find_spec(n) is None]
    if missing:
        raise ImportError(
            f'ONNX export needs {", ".join(missing)}: `pip install "openmmir[deploy]"`'
        )
    network = OneCamera(model, modality)
    proto = _trace(network, size)
    facts = dict(producer=f'mmir {__version__}', modality=modality, channels='RGB')
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
    content = proto.SerializeToString()
    image = random_images(1, size)[0]
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    (found,) = session_of(content).run(None, {'images': image})
    gap = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not gap <= LIMIT:  # also if it is NaN
        raise UserError(
            f'{path} is not written, because its feature differs from that of PyTorch '
            f'by {gap:.2g} of its norm (accepted: {LIMIT:g})'
        )
    write_bytes(content, path)
    return gap


def quantize_onnx(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    images: Iterable[np.ndarray],
    skip: int = 6,
) -> None:
    """Quantize an exported network to 8 bits, by onnxruntime.

    Weights are quantized per channel; the ranges of activations are measured on images.
    The first blocks change the feature most. Without them in 8 bits, light networks are
    about as fast, and a ResNet-50 takes 18 % longer.

    Args:
        source (str | PathLike): File of :func:`export_onnx`.
        target (str | PathLike): File to write.
        images (Iterable[ndarray]): RGB images (1, 3, H, W), float32, 0 to 255, such as
            some of the training images.
        skip (int): Convolutions from the input on that stay in float32.

    Raises:
        UserError: There are no images.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    left = iter(images)
    first = next(left, None)
    if first is None:
        raise UserError('quantization needs images to measure activations on')
    feeds = ({'images': image} for image in chain([first], left))

    class Reader(CalibrationDataReader):
        """Hands out the images."""

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next image, if there is one."""
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        ready, done = Path(folder, 'ready.onnx'), Path(folder, 'int8.onnx')
        quant_pre_process(os.fspath(source), os.fspath(ready))
        nodes = onnx.load(ready).graph.node
        convs = [node.name for node in nodes if node.op_type == 'Conv']
        quantize_static(
            os.fspath(ready),
            os.fspath(done),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=convs[:skip],
        )
        write_bytes(done.read_bytes(), target)


def calibration_images(cfg: Config, modality: str, count: int) -> Iterator[np.ndarray]:
    """Yield training images of a modality as the exported network reads them.

    Args:
        cfg (Config): Config of a training; its images are read without augmentation, by
            the pipeline of the test.
        modality (str): 'rgb' or 'ir'.
        count (int): Number of images, evenly spread over the dataset.

    Yields:
        ndarray: RGB image (1, 3, H, W), float32, 0 to 255.
    """
    pipeline = cfg.test_dataloader.dataset.pipeline
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': pipeline})
    infos = (dataset.get_data_info(k) for k in range(len(dataset)))
    chosen = [k for k, info in enumerate(infos) if info['modality'] == modality]
    step = max(1, len(chosen) // count)
    for k in islice(chosen[::step], count):
        yield network_input(dataset[k]['inputs'])


def network_input(image: Tensor) -> np.ndarray:
    """Turn a packed image into what an exported network reads.

    Args:
        image (Tensor): BGR image (3, H, W), uint8.

    Returns:
        ndarray: RGB image (1, 3, H, W), float32, 0 to 255.
    """
    return np.ascontiguousarray(image.numpy()[::-1][None], np.float32)


def random_images(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Smooth random images.

    Args:
        count (int): Number of images.
        size (tuple[int, int]): Height and width in px.

    Returns:
        list[ndarray]: Images (1, 3, H, W), float32, 0 to 255.
    """
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 8, 4, generator=generator)
    images = nn.functional.interpolate(255 * small, size, mode='bilinear')
    return [image[None].numpy() for image in images]


def session_of(
    model: bytes | str | os.PathLike[str], threads: int = 1
) -> 'InferenceSession':
    """Open a network in onnxruntime, on the CPU.

    Args:
        model (bytes | str | PathLike): The network or its file.
        threads (int): Threads within an operator.

    Returns:
        InferenceSession: Session of onnxruntime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings about optimizations
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    source = model if isinstance(model, bytes) else os.fspath(model)
    return onnxruntime.InferenceSession(
        source, options, providers=['CPUExecutionProvider']
    )


def _trace(network: OneCamera, size: tuple[int, int]) -> 'ModelProto':
    """Convert the network to ONNX, from `images` to `feature`."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # from inside torch
        program = torch.onnx.export(
            network,
            (torch.zeros(1, 3, *size),),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=['images'],
            output_names=['feature'],
            verbose=False,
        )
    return program.model_proto
