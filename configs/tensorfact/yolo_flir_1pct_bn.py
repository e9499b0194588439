# Baseline: only batch norms and the head are trained.
_base_ = './yolo_flir_1pct.py'

model = dict(
    adapt=dict(_delete_=True, type='Frozen', trainable=['^bbox_head'], norm='all')
)
