# TOPLight with MobileNetV3-L on RegDB, one trial: --cfg-options trial=2 for the second.
# Run `top_mbv3l.py` first.
_base_ = [
    '../_base_/models/toplight_mbv3l.py',
    '../_base_/datasets/reid_regdb.py',
    '../_base_/schedules/sgd_81e_agw.py',
    '../_base_/runtime/reid.py',
]

num_classes = 206
model = dict(head=dict(num_classes=num_classes))
