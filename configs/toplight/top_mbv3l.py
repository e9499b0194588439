# Task-oriented pretraining of MobileNetV3-L (rows 5 to 9 of table 3).
_base_ = [
    '../_base_/models/dual_mbv3l.py',
    '../_base_/datasets/top_imagenet.py',
    '../_base_/schedules/sgd_30e_top.py',
    '../_base_/runtime/top.py',
]
