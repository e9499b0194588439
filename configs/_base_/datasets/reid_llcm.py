# Visible-infrared people: LLCM, at the image size of its authors.
_base_ = './reid_sysu.py'

data_root = 'data/LLCM'
width, height = 144, 384
resize = dict(
    type='mmpretrain.Resize',
    scale=(width, height),
    backend='pillow',
    interpolation='lanczos',
)
crop = dict(type='mmpretrain.RandomCrop', crop_size=(height, width), padding=10)
train_dataloader = dict(
    dataset=dict(
        type='mmir.LLCM',
        data_root=data_root,
        pipeline=[_base_.load, resize, crop, _base_.flip, _base_.pack],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmir.LLCM',
        data_root=data_root,
        pipeline=[_base_.load, resize, _base_.pack],
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(protocols=['llcm_ir2rgb', 'llcm_rgb2ir'])
test_evaluator = val_evaluator
demo = dict(data='LLCM', length=20)
