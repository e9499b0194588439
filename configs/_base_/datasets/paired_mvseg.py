# RGB+infrared segmentation of labeled video frames: MVSeg, 26 classes, at 480 x 320,
# the working size of its authors' baseline.
_base_ = './paired_mfnet_vga.py'

data_root = 'data/MVSeg/'
crop_size = (320, 480)  # height, width of the network input in training
load_files = dict(
    type='mmir.LoadPairedImages', modalities=dict(rgb=dict(), ir=dict(channels=3))
)
train_geometry = dict(
    type='mmir.PairedTransform',
    transforms=[
        dict(
            type='RandomResize',
            scale=(480, 320),
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
        transforms=dict(type='mmseg.Resize', scale=(480, 320)),
    ),
    *_base_.test_steps,  # labels after Resize: measured at the original size
]
train_dataloader = dict(
    dataset=dict(
        type='mmir.MVSegDataset',
        data_root=data_root,
        pipeline=[load_files, _base_.labels, train_geometry, *_base_.finish],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmir.MVSegDataset',
        data_root=data_root,
        split='val',
        pipeline=[load_files, *test_steps],
    )
)
test_dataloader = dict(
    dataset=dict(
        type='mmir.MVSegDataset',
        data_root=data_root,
        split='test',
        pipeline=[load_files, *test_steps],
    )
)
demo = dict(data='MVSeg')
