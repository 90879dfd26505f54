"""The real torch_npu wheel on a machine without an Ascend: stand-in CANN libraries, CPU arithmetic.

    python -m mmdet.testing.ascend_sim --devices 8 -- bash test/train_performance_8p.sh --data_path=...

Read in this order: __main__.py (the command), build.py (compiles csrc/ against the installed wheel), csrc/
(runtime.c, memory.c: ACL without a card; hccl.c: HCCL over shared memory; aclop.c: compiled operators),
inject/sitecustomize.py (loads operators.py into each Python process), operators.py (aten on aliased memory).

What it shows: that the unchanged launchers, `torch.npu`, ProcessGroupHCCL and torch_npu's GradScaler work
with this code. What it does not: the numerics, the speed, the memory formats or the compiler of a real card.
"""
