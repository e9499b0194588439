# MobileNetV3-L with its ImageNet weights and nothing of TOPLight: row 1 of table 3.
_base_ = [
    '../_base_/models/light_mbv3l.py',
    '../_base_/datasets/reid_sysu.py',
    '../_base_/schedules/sgd_81e_agw.py',
    '../_base_/runtime/reid.py',
]
