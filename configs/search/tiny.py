# A two-step search small enough for two CPU cores: 0.05 to 0.1 GFLOPs.
search = dict(
    base="../toy/scrfd_tiny_toy.py",
    gflops=0.075,
    eps=0.333,
    base_channels=[8, 16],
    stage_blocks=[1, 4],
    stage_planes_ratio=[1.5, 3.0],
    fpn_channels=[8, 32],
    head_channels=[8, 64],
    head_depth=[1, 2],
)
