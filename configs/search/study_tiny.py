# The small campaign of docs/search.md: two workers, CPU minutes. Step 2:
# --name tiny_2 --out DIR2 --cfg-options search.mode=2 search.num_candidates=4 search.base=DIR1/best.py
search = dict(
    search="tiny.py",
    num_candidates=6,
    epochs=5,
    eval_interval=1,
    options=["data.samples_per_gpu=8", "checkpoint_config.interval=1", "evaluation.start=1"],
    heartbeat_s=10,
)
