# From the released YOLOv7-L to FLIR's thermal camera without an RGB stage: the head is
# trained from scratch. Convert the official file first:
#   python tools/model_converters/yolov7.py yolov7.pt work_dirs/yolov7_coco.pth
_base_ = './yolo_flir_1pct.py'

load_from = 'work_dirs/yolov7_coco.pth'
