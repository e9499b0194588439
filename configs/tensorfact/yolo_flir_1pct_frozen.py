# Baseline: the usual few-shot recipe: frozen RGB backbone, neck and head are trained.
_base_ = './yolo_flir_1pct.py'

model = dict(
    adapt=dict(_delete_=True, type='Frozen', trainable=['^neck', '^bbox_head'])
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
