# Baseline: only batch norms and the head train.
_base_ = './yolo_flir_1pct.py'

load_from = 'work_dirs/yolo_rgb/merged.pth'
model = dict(
    factorize=dict(
        _delete_=True, rank=None, stage='ir', trainable=['^bbox_head'], bn='all'
    )
)
