# Red + near infrared of a field camera: soil, crop and weed. The folders `red`, `nir`
# and `label` hold files of equal stems; `train.txt` and `test.txt` list the stems.

# ========================== values one often changes ==========================
data_root = 'data/field/'
crop_size = (480, 640)  # height, width of the network input in training
classes = ('soil', 'crop', 'weed')
palette = [[96, 64, 32], [0, 200, 0], [220, 40, 40]]
batch_size = 8  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
load = [
    dict(
        type='mmir.LoadPairedImages',
        modalities=dict(red=dict(channels=3), nir=dict(channels=3)),
    ),
    dict(type='mmseg.LoadAnnotations'),
]
train_pipeline = [
    *load,
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(
                type='RandomResize',
                scale=(640, 480),
                ratio_range=(0.5, 2.0),
                keep_ratio=True,
            ),
            dict(type='mmseg.RandomCrop', crop_size=crop_size),
            dict(type='mmseg.RandomFlip', prob=0.5),
        ],
    ),
    dict(type='mmir.PackPairedInputs'),
]
test_pipeline = [
    load[0],
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='mmseg.Resize', scale=(640, 480), keep_ratio=True),
    ),
    load[1],  # after Resize: measured at the original size
    dict(type='mmir.PackPairedInputs'),
]
field = dict(
    type='mmir.PairedSegDataset',
    data_root=data_root,
    modality=('red', 'nir'),  # the labels belong to the first
    data_prefix=dict(red='red', nir='nir', seg_map_path='label'),
    metainfo=dict(classes=classes, palette=palette),
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(field, ann_file='train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(field, ann_file='test.txt', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
demo = dict(data='field')  # synthetic data of `--demo`
