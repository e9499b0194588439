"""YOLOv7 detector."""

from mmir.det.yolo.detector import YOLODetector
from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv7(YOLODetector):
    """YOLOv7 (tiny, L, X) of `YOLOv7Backbone`, `YOLOv7Neck` and `YOLOHead`.

    Source: Wang et al., YOLOv7: Trainable Bag-of-Freebies Sets New State-of-the-Art
    for Real-Time Object Detectors, CVPR 2023.

    Takes the arguments of mmdet's `SingleStageDetector`.
    """
