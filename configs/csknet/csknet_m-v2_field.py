# CSK-Net on red + near infrared, as a start for a camera pair of yours. All numbers are
# ours.
_base_ = [
    '../_base_/models/deeplabv3plus_m-v2_csknet.py',
    '../_base_/datasets/paired_field.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

# teacher.checkpoint: that of deeplabv3plus_m-v2_field_nir.py.
# Without it nothing is distilled.
model = dict(teacher=dict(checkpoint=None))
test_cfg = dict(type='mmir.MissingModalityTestLoop')  # nir, red, nir+red
