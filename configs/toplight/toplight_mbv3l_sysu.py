# TOPLight with MobileNetV3-L on SYSU-MM01: row 9 of table 3.
# Run `top_mbv3l.py` first.
_base_ = [
    '../_base_/models/toplight_mbv3l.py',
    '../_base_/datasets/reid_sysu.py',
    '../_base_/schedules/sgd_81e_agw.py',
    '../_base_/runtime/reid.py',
]
