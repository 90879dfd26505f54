# The small campaign of docs/search.md: two workers, CPU minutes. Step 2:
# --name tiny_2 --out DIR2 --cfg-options search.mode=2 search.num_candidates=4 search.base=DIR1/best.py
search = dict(
    search="tiny.py",
    num_candidates=6,
    epochs=14,
    eval_interval=2,
    options=["checkpoint_config.interval=1", "evaluation.start=10"],
    heartbeat_s=10,
)
