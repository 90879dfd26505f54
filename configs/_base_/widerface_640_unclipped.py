# As widerface_640.py, but faces cut by the crop keep their true extent (bbox_clip_border=False):
# the published 1.3g, 2.5g and 10g recipes are trained so.
_base_ = ["widerface_640.py"]
_steps = _base_.data.train.pipeline
_crop = dict(_steps[2], bbox_clip_border=False)
_resize = dict(_steps[3], bbox_clip_border=False)
data = dict(train=dict(pipeline=[*_steps[:2], _crop, _resize, *_steps[4:]]))
