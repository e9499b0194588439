"""What the YOLO detectors share: head, assignment, folding, export, checkpoints."""

from mmir.det.yolo.assigner import OTAAssigner
from mmir.det.yolo.detector import YOLODetector
from mmir.det.yolo.head import YOLOHead
from mmir.det.yolo.head_module import YOLOHeadModule

__all__ = ['OTAAssigner', 'YOLODetector', 'YOLOHead', 'YOLOHeadModule']
