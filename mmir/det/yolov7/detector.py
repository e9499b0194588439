"""The YOLOv7 detector."""

from mmdet.models.detectors.single_stage import SingleStageDetector

from mmir.registry import MODELS


@MODELS.register_module()
class YOLOv7(SingleStageDetector):
    """YOLOv7 (tiny, L): `YOLOv7Backbone`, `YOLOv7Neck` and `YOLOv7Head`.

    Source: Wang et al., YOLOv7: Trainable Bag-of-Freebies Sets New State-of-the-Art
    for Real-Time Object Detectors, CVPR 2023.

    Takes the arguments of mmdet's `SingleStageDetector`.
    """
