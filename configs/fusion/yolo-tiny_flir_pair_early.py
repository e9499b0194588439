# Early fusion: the first convolution reads both images.
_base_ = [
    '../_base_/models/yolov7_tiny_paired.py',
    '../_base_/datasets/paired_det.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

model = dict(
    type='mmir.EarlyFusion',
    target='mmir.YOLOv7',
    # how to widen a 3-channel checkpoint: 'average', 'copy', 'zero'
    fusion=dict(init='average'),
)
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
