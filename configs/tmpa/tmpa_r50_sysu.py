# TMPA on SYSU-MM01.
_base_ = [
    '../_base_/models/tmpa_r50.py',
    '../_base_/datasets/reid_sysu.py',
    '../_base_/schedules/sgd_81e_tmpa.py',
    '../_base_/runtime/reid.py',
]
