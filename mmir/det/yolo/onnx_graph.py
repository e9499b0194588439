"""ONNX graph of a YOLO detector, from the image to the decoded boxes."""

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from onnx import ModelProto

    from mmir.det.yolo.detector import YOLODetector

OPSET = 18


class Exportable(nn.Module):
    """Module exported to ONNX: normalization, network and decoding.

    Args:
        model (YOLODetector): Detector. It is not modified.
    """

    def __init__(self, model: 'YOLODetector') -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W), 0 to 255, to all boxes and scores.

        Returns:
            tuple[Tensor, Tensor]: (N, B, 4), xyxy in pixels, and (N, B, C), see
            `YOLOHead.decode_maps`.
        """
        model, prepare = self.model, self.model.data_preprocessor
        if getattr(prepare, '_enable_normalize', False):
            images = (images - prepare.mean) / prepare.std
        return model.bbox_head.decode_maps(model(images, mode='tensor')[0])


def trace(model: 'YOLODetector', size: tuple[int, int], dynamic: bool) -> 'ModelProto':
    """Convert a detector to an ONNX model.

    Args:
        model (YOLODetector): Detector after `to_deploy`, on the CPU.
        size (tuple[int, int]): Height and width of the input, multiples of 32.
        dynamic (bool): Allow any batch size, and any height and width divisible by 32.
            Otherwise the input is one image of `size`.

    Returns:
        ModelProto: Input `images`, outputs `boxes` and `scores`, see `Exportable`.
    """
    height, width = size
    # a dimension of size one would be exported as a constant
    example = torch.zeros(1, 3, height, width)
    shapes = None
    if dynamic:
        example = torch.zeros(2, 3, max(height, 64), max(width, 64))
        rows, columns = torch.export.Dim('rows'), torch.export.Dim('columns')
        shapes = ({0: torch.export.Dim('batch'), 2: 32 * rows, 3: 32 * columns},)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # from inside torch
        program = torch.onnx.export(
            Exportable(model).eval(),
            (example,),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=['images'],
            output_names=['boxes', 'scores'],
            dynamic_shapes=shapes,
            verbose=False,
        )
    return program.model_proto


def rename(proto: 'ModelProto', names: dict[str, str]) -> None:
    """Rename values of an ONNX model, in place.

    Args:
        proto (ModelProto): Model.
        names (dict[str, str]): New name by old name.
    """
    for node in proto.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for info in (*proto.graph.output, *proto.graph.value_info):
        info.name = names.get(info.name, info.name)
