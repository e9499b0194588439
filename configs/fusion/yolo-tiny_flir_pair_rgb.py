# RGB only, on the paired data and augmentation of the fusion configs.
_base_ = [
    '../_base_/models/yolov7_tiny_paired.py',
    '../_base_/datasets/paired_det.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

model = dict(type='mmir.SingleModality', target='mmir.YOLOv7', modality='rgb')
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
