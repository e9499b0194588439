# RGB+infrared segmentation of street scenes at 640 x 480: MSRS.
_base_ = './paired_mfnet_vga.py'

data_root = 'data/MSRS/'
load_files = dict(
    type='mmir.LoadPairedImages', modalities=dict(rgb=dict(), ir=dict(channels=3))
)
train_dataloader = dict(
    dataset=dict(
        type='mmir.MSRSDataset',
        data_root=data_root,
        pipeline=[load_files, *_base_.train_steps],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmir.MSRSDataset',
        data_root=data_root,
        split='test',
        pipeline=[load_files, *_base_.test_steps],
    )
)
test_dataloader = val_dataloader
demo = dict(data='MSRS')
