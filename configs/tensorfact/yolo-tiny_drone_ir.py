# Infrared stage on small flying objects: 25 labeled infrared images.
_base_ = './yolo-tiny_flir_1pct.py'

# ========================== values one often changes ==========================
data_root = 'data/drone_ir/'
classes = ('airplane', 'bird', 'drone', 'helicopter')
subset = dict(num=25, seed=0)
load_from = 'work_dirs/yolo-tiny_drone_rgb/epoch_200.pth'

# ========================= values that rarely change ==========================
data = dict(
    type='mmir.CocoSubsetDataset',
    data_root=data_root,
    ann_file='train.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=classes),
)
model = dict(bbox_head=dict(head_module=dict(num_classes=len(classes))))
train_dataloader = dict(dataset=dict(dataset=dict(data, subset=subset)))
val_dataloader = dict(dataset=dict(data, ann_file='test.json'))
test_dataloader = val_dataloader
demo = dict(data='drone', modality='ir')  # synthetic data of `--demo`
