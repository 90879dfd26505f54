# SCRFD-500M with five keypoints; BN heads, one set per stride.
_base_ = [
    "../_base_/widerface_640.py",
    "../_base_/schedule_640e.py",
    "../_base_/runtime.py",
    "../_base_/scrfd.py",
]
model = dict(
    backbone=dict(
        type="MobileNetV1",
        block_cfg=dict(stage_blocks=[2, 3, 2, 6], stage_planes=[16, 16, 40, 72, 152, 288]),
    ),
    neck=dict(in_channels=[40, 72, 152, 288], out_channels=16),
    bbox_head=dict(
        in_channels=16,
        feat_channels=64,
        dw_conv=True,
        norm_cfg=dict(_delete_=True, type="BN", requires_grad=True),
        strides_share=False,
        scale_mode=0,
        use_kps=True,
    ),
)
data = dict(samples_per_gpu=16, workers_per_gpu=4)
auto_scale_lr = dict(base_batch_size=64)  # 4 devices x 16
