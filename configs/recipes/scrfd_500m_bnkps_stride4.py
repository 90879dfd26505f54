# With a level of stride 4, whose anchors of 4 and 8 px are for faces below the published smallest anchor. It
# makes the network dearer (docs/recipes.md), and published weights do not fit.
_base_ = ["scrfd_500m_bnkps.py"]
model = dict(
    neck=dict(start_level=0, num_outs=4),
    bbox_head=dict(anchor_generator=dict(strides=[4, 8, 16, 32], base_sizes=[4, 16, 64, 256])),
)
