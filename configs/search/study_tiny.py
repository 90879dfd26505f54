# The small campaign of docs/search.md; step 2: --cfg-options search.mode=2 search.base=OUT/best.py ...
search = dict(
    search="tiny.py",
    num_candidates=6,
    epochs=3,
    eval_interval=1,
    options=["data.samples_per_gpu=16", "checkpoint_config.interval=1", "evaluation.start=1"],
    heartbeat_s=5,
)
