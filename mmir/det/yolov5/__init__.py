"""YOLOv5 for mmdet."""

from mmir.det.yolov5.backbone import YOLOv5Backbone
from mmir.det.yolov5.detector import YOLOv5
from mmir.det.yolov5.neck import YOLOv5Neck

__all__ = ['YOLOv5', 'YOLOv5Backbone', 'YOLOv5Neck']
