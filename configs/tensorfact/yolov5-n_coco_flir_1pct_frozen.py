# Baseline: the backbone is frozen, neck and head are trained.
_base_ = './yolov5-n_coco_flir_1pct.py'

model = dict(
    adapt=dict(_delete_=True, type='Frozen', trainable=['^neck', '^bbox_head'])
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
