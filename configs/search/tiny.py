# A two-step search small enough for two CPU cores: 0.075 +- 0.025 GFLOPs.
search = dict(
    base="../toy/scrfd_tiny_toy.py",
    gflops=0.08,
    eps=0.25,
    block_types=["BasicBlock"],
    base_channels=[8, 8],
    stage_blocks=[1, 3],
    stage_planes_ratio=[1.0, 4.0],
    fpn_channels=[8, 32],
    head_channels=[8, 64],
    head_depth=[1, 2],
)
