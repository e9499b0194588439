"""YOLOv5 detector."""

from mmir.det.yolo.detector import YOLODetector
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv5(YOLODetector):
    """YOLOv5 v6 (N, S, M, L, X) of `YOLOv5Backbone`, `YOLOv5Neck` and `YOLOHead`.

    The network and its anchors are those of YOLOv5. It is trained with the assignment
    and the losses of YOLOv7, see `YOLOHead`.

    Source: Jocher et al., YOLOv5 v6.0 to v7.0, 2021 and 2022.

    Takes the arguments of mmdet's `SingleStageDetector`.
    """
