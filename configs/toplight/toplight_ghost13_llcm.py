# TOPLight with GhostNet 1.3x on LLCM.
# Run `top_ghost13.py` first.
_base_ = [
    '../_base_/models/toplight_ghost13.py',
    '../_base_/datasets/reid_llcm.py',
    '../_base_/schedules/sgd_81e_agw.py',
    '../_base_/runtime/reid.py',
]

num_classes = 713
model = dict(head=dict(num_classes=num_classes))
