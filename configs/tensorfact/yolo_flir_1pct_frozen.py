# Baseline: the usual few-shot recipe, the RGB backbone stays and the rest trains.
_base_ = './yolo_flir_1pct.py'

model = dict(
    adapt=dict(_delete_=True, type='Frozen', trainable=['^neck', '^bbox_head'])
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
