# SCRFD-10G with five keypoints; BN heads, one set per stride.
_base_ = ["scrfd_10g.py"]
model = dict(
    bbox_head=dict(
        norm_cfg=dict(_delete_=True, type="BN", requires_grad=True),
        strides_share=False,
        use_kps=True,
    ),
)
