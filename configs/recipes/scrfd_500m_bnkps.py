# scrfd_500m_bnkps trained another way than published: AdamW, a schedule that fits the run, averaged weights,
# mosaics and crops that magnify, no face without an anchor. Not yet run on the whole of WIDER FACE.
_base_ = ["../scrfd/scrfd_500m_bnkps.py", "../_base_/modern.py"]
model = dict(bbox_head=dict(loss_cls=dict(loss_weight=3.0)))
data = dict(train=_base_._modern_train)
train_cfg = dict(assigner=dict(min_face_px=4.0, ignore_unassigned=True))
optimizer = _base_._modern_optimizer
lr_config = dict(_delete_=True, policy="auto")
auto_scale_lr = dict(base_batch_size=16)
total_epochs = 320
checkpoint_config = dict(interval=None)
evaluation = dict(interval=None)
log_config = dict(interval=None)
