# Infrared stage of TensorFact as published, on YOLOv5n: the 3x3 kernels of the COCO
# detector are factorized without loss, frozen, and extended by deltas of rank 1.
_base_ = './yolov5-n_coco_flir_1pct.py'

model = dict(
    adapt=dict(
        _delete_=True,
        type='TensorFact',
        rank='full',
        skip_growing=False,  # factors of full rank are larger than the kernels
        delta=1,
        trainable=['^bbox_head'],
        norm='all',
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
