# SCRFD-1G with BN heads, one set per stride.
_base_ = ["scrfd_1g.py"]
model = dict(
    bbox_head=dict(norm_cfg=dict(_delete_=True, type="BN", requires_grad=True), strides_share=False),
)
