# Baseline: the usual few-shot recipe, the RGB backbone stays and the rest trains.
_base_ = './yolo_flir_1pct.py'

load_from = 'work_dirs/yolo_rgb/merged.pth'
model = dict(
    factorize=dict(
        _delete_=True,
        rank=None,
        stage='ir',
        trainable=['^neck', '^bbox_head'],
        bn='frozen',
    )
)
