# Salient objects in RGB+thermal pairs: training on VT5000, test on one of three sets.
# The numbers of the augmentation are those of the published IV-tuning code. It also
# adds pepper noise to 0.15% of the mask, which is left out here.

# ========================== values one often changes ==========================
data_root = 'data/VT5000/'
image_size = (384, 384)  # width, height of the network input
batch_size = 8  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
# Thermal images have three equal channels: IV-tuning embeds them like color images.
load = dict(
    type='mmir.LoadPairedImages',
    modalities=dict(rgb=dict(channels=3), ir=dict(channels=3)),
)
load_mask = dict(type='mmir.LoadSaliencyMask')
train_pipeline = [
    load,
    load_mask,
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(type='mmseg.RandomFlip', prob=0.5),
            dict(type='mmir.RandomCenterCrop', border=30),
            # corners outside the image are black and not salient
            dict(type='mmseg.RandomRotate', prob=0.2, degree=15, seg_pad_val=0),
            dict(type='mmseg.Resize', scale=image_size),
        ],
    ),
    dict(
        type='mmir.OnModality',
        modality='rgb',
        transforms=dict(type='mmir.RandomEnhance'),
    ),
    dict(type='mmir.PackPairedInputs'),
]
test_pipeline = [
    load,
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='mmseg.Resize', scale=image_size),
    ),
    load_mask,  # after Resize: maps are measured at the original size
    dict(type='mmir.PackPairedInputs'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmir.VTSODDataset',
        name='VT5000',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.VTSODDataset',
        name='VT5000',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
# For VT821 or VT1000 set `name` and `data_root` of test_dataloader.dataset.
test_dataloader = val_dataloader
# S-measure, weighted F, mean E, MAE: needs `pip install "openmmir[sod]"`
val_evaluator = dict(type='mmir.SODMetric')
test_evaluator = val_evaluator
demo = dict(data='VT5000')  # synthetic data of `--demo`
