# yolo_flir_1pct_tensorfact.py with the complementarity loss, which makes deltas learn
# what the frozen kernels do not respond to.
_base_ = './yolo_flir_1pct_tensorfact.py'

model = dict(adapt=dict(comp_loss=dict(type='cos2', weight=0.1)))
