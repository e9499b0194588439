# CSK-Net on PST900: RGB+infrared, or either alone.
_base_ = [
    '../_base_/models/deeplabv3plus_r50_csknet.py',
    '../_base_/datasets/paired_pst900.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

# teacher.checkpoint: that of deeplabv3plus_r50_pst900_rgb.py.
# Without it nothing is distilled.
model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=dict(decoder=dict(num_classes=5)),
    teacher=dict(checkpoint=None),
)
test_cfg = dict(type='mmir.MissingModalityTestLoop')  # rgb, ir, rgb+ir
