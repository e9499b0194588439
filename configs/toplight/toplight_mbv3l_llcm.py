# TOPLight with MobileNetV3-L on LLCM.
# Run `top_mbv3l.py` first.
_base_ = [
    '../_base_/models/toplight_mbv3l.py',
    '../_base_/datasets/reid_llcm.py',
    '../_base_/schedules/sgd_81e_agw.py',
    '../_base_/runtime/reid.py',
]

num_classes = 713
model = dict(head=dict(num_classes=num_classes))
