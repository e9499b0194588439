# Visible and near-infrared faces by lists, such as Oulu-CASIA NIR-VIS or BUAA-VisNir.
# The images are aligned crops. The rates are those of public evaluations.

# ========================== values one often changes ==========================
data_root = 'data/OuluNIRVIS'
batch_size = 64  # of one process
num_workers = 4

# ========================= values that rarely change ==========================
width, height = 128, 128
load = dict(type='LoadImageFromFile', _scope_='mmir')
resize = dict(type='mmpretrain.Resize', scale=(width, height))
flip = dict(type='mmpretrain.RandomFlip', prob=0.5)
gray = dict(type='mmpretrain.RandomGrayscale', prob=1.0, keep_channels=True)
pack = dict(
    type='mmpretrain.PackInputs',
    meta_keys=('sample_idx', 'img_path', 'pid', 'cam_id', 'modality'),
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmir.NIRVISFace',
        data_root=data_root,
        vis='lists/train_vis.txt',
        nir='lists/train_nir.txt',
        pipeline=[load, resize, flip, gray, pack],
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.NIRVISFace',
        data_root=data_root,
        vis='lists/test_vis.txt',  # gallery
        nir='lists/test_nir.txt',  # probes
        pipeline=[load, resize, gray, pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmir.VerificationMetric', rates=(0.01, 0.001))
test_evaluator = val_evaluator
demo = dict(data='NIRVISFace', length=20)  # people stand in for faces
