# RGB stage on small flying objects, YOLOv7-tiny from scratch.
_base_ = './yolo-tiny_rgb.py'

# ========================== values one often changes ==========================
data_root = 'data/drone_rgb/'
classes = ('airplane', 'bird', 'drone', 'helicopter')

# ========================= values that rarely change ==========================
data = dict(
    data_root=data_root,
    ann_file='train.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=classes),
)
model = dict(bbox_head=dict(head_module=dict(num_classes=len(classes))))
train_dataloader = dict(dataset=dict(dataset=data))
val_dataloader = dict(dataset=dict(data, ann_file='test.json'))
test_dataloader = val_dataloader
demo = dict(data='drone', modality='rgb')  # synthetic data of `--demo`
