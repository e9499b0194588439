# Halfway fusion by one backbone: shared convolutions, norms per modality, the mean of
# the maps. A missing modality is left out.
_base_ = [
    '../_base_/models/yolov7_tiny_paired.py',
    '../_base_/datasets/paired_det.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

model = dict(type='mmir.ModalityShared', target='mmir.YOLOv7')
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
