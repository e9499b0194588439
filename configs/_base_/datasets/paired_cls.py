# Classification of RGB+infrared pairs, one folder per class: train/rgb/person/1.jpg has
# its infrared image in train/ir/person/1.jpg.

# ========================== values one often changes ==========================
data_root = 'data/pairs/'
classes = ('person', 'bicycle', 'car')  # names of the folders
batch_size = 32  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
images = dict(
    type='mmir.LoadPairedImages',
    modalities=dict(rgb=dict(), ir=dict(folder=('rgb', 'ir'))),
    sizes='resize',  # crops of one object by two cameras
)
train_pipeline = [
    images,
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(
                type='mmpretrain.RandomResizedCrop',
                scale=224,
                crop_ratio_range=(0.5, 1.0),
            ),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
        ],
    ),
    dict(type='mmir.PackPairedInputs'),
]
test_pipeline = [
    images,
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='mmpretrain.Resize', scale=(224, 224)),
    ),
    dict(type='mmir.PackPairedInputs'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root=data_root,
        data_prefix='train/rgb',
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root=data_root,
        data_prefix='val/rgb',
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_evaluator = val_evaluator
demo = dict(data='crops')  # synthetic data of `--demo`
