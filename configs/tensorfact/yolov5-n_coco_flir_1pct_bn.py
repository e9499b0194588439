# Baseline: only batch norms and prediction layers are trained.
_base_ = './yolov5-n_coco_flir_1pct.py'

model = dict(
    adapt=dict(_delete_=True, type='Frozen', trainable=['^bbox_head'], norm='all')
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
