# Infrared stage of YOLOv7-tiny by scale and shift instead of low-rank updates.
_base_ = '../../configs/tensorfact/yolo-tiny_flir_1pct.py'

custom_imports = dict(imports=['mmir', 'projects.example_project.scale_and_shift'])
model = dict(
    adapt=dict(
        _delete_=True,  # the keys of the base belong to its method
        type='ScaleAndShift',
        exclude=['bbox_head'],
        trainable=['bbox_head'],
    )
)
