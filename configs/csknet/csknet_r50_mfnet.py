# CSK-Net on MFNet: RGB+infrared, or either alone.
_base_ = [
    '../_base_/models/deeplabv3plus_r50_csknet.py',
    '../_base_/datasets/paired_mfnet_vga.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

# teacher.checkpoint: that of deeplabv3plus_r50_mfnet_rgb.py.
# Without it nothing is distilled.
model = dict(
    teacher=dict(checkpoint=None),
)
test_cfg = dict(type='mmir.MissingModalityTestLoop')  # rgb, ir, rgb+ir
