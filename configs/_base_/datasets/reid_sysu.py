# Visible-infrared people: SYSU-MM01, with the batches and images of AGW.

# ========================== values one often changes ==========================
data_root = 'data/SYSU-MM01'
ids_per_batch = 8  # over all GPUs
images_per_id = 4  # of each modality
batch_size = 64  # of one process: 2 * ids_per_batch * images_per_id / processes
num_workers = 4

# ========================= values that rarely change ==========================
width, height = 144, 288
load = dict(type='LoadImageFromFile', _scope_='mmir')
resize = dict(
    type='mmpretrain.Resize',
    scale=(width, height),
    backend='pillow',
    interpolation='lanczos',
)
crop = dict(type='mmpretrain.RandomCrop', crop_size=(height, width), padding=10)
flip = dict(type='mmpretrain.RandomFlip', prob=0.5)
pack = dict(
    type='mmpretrain.PackInputs',
    meta_keys=('sample_idx', 'img_path', 'pid', 'cam_id', 'modality'),
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(
        type='mmir.CrossModalIdentitySampler',
        ids_per_batch=ids_per_batch,
        images_per_id=images_per_id,
        seed=0,  # the batches of AGW
    ),
    dataset=dict(
        type='mmir.SYSUMM01',
        data_root=data_root,
        split='train',
        pipeline=[load, resize, crop, flip, pack],
    ),
)
# Validation runs on the test images, as in most papers: watch it, but do not choose the
# checkpoint by it.
val_dataloader = dict(
    batch_size=64,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.SYSUMM01',
        data_root=data_root,
        split='test',
        pipeline=[load, resize, pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmir.VIReIDMetric', protocols=['sysu_all_agw', 'sysu_indoor_agw']
)
test_evaluator = val_evaluator
demo = dict(data='SYSUMM01', length=20)  # synthetic people of `--demo`
