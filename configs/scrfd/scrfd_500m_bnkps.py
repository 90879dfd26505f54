# SCRFD-500M with five keypoints; BN heads, one set per stride.
_base_ = ["scrfd_500m.py"]
model = dict(
    bbox_head=dict(
        norm_cfg=dict(_delete_=True, type="BN", requires_grad=True),
        strides_share=False,
        scale_mode=0,
        use_kps=True,
    ),
)
data = dict(samples_per_gpu=16, workers_per_gpu=4)
auto_scale_lr = dict(base_batch_size=64)  # 4 devices x 16
