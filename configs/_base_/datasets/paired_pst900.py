# RGB+infrared segmentation underground: PST900, 5 classes, at 640 x 360, half of the
# size of the images.
_base_ = './paired_mfnet_vga.py'

data_root = 'data/PST900/'
crop_size = (360, 640)  # height, width of the network input in training
load_files = dict(
    type='mmir.LoadPairedImages', modalities=dict(rgb=dict(), ir=dict(channels=3))
)
train_geometry = dict(
    type='mmir.PairedTransform',
    transforms=[
        dict(
            type='RandomResize',
            scale=(640, 360),
            ratio_range=(0.5, 2.0),
            keep_ratio=True,
        ),
        dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
        dict(type='mmseg.RandomFlip', prob=0.5),
    ],
)
test_steps = [
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='mmseg.Resize', scale=(640, 360)),
    ),
    *_base_.test_steps,  # labels after Resize: measured at the original size
]
train_dataloader = dict(
    dataset=dict(
        type='mmir.PST900Dataset',
        data_root=data_root,
        pipeline=[load_files, _base_.labels, train_geometry, *_base_.finish],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmir.PST900Dataset',
        data_root=data_root,
        split='test',
        pipeline=[load_files, *test_steps],
    )
)
test_dataloader = val_dataloader
demo = dict(data='PST900')
