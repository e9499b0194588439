# From the released YOLOv7-L to FLIR's thermal camera, without a training on RGB images:
# the official COCO weights are factorised as they load, the head is made anew. Convert
# the file first:
#   python tools/model_converters/yolov7.py yolov7.pt work_dirs/yolov7_coco.pth
_base_ = './yolo_flir_1pct.py'

# full rank: exact, a lower one would need a training on RGB images to recover
model = dict(factorize=dict(rank='full', skip_growing=False))
load_from = 'work_dirs/yolov7_coco.pth'
