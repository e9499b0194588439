# From the released YOLOv7-tiny to FLIR's thermal camera without an RGB stage: the head
# is trained from scratch. Convert the official file first:
#   python tools/model_converters/yolov7.py yolov7-tiny.pt \
#       work_dirs/yolov7-tiny_coco.pth
_base_ = './yolo-tiny_flir_1pct.py'

load_from = 'work_dirs/yolov7-tiny_coco.pth'
