"""Speed measurements: each is a ratio against a baseline that takes turns with it in the same run.

Read measure and turns (contestants in processes of their own) first, then one subject: targets, data,
evaluation, step (with roofline), infer, startup; `baseline_*` is the reference's algorithm written plainly,
which the tests also use as an oracle. scaling calculates what many cards reach. `tools/benchmark.py` and
`tools/scaling_model.py` start them. Nothing outside this package imports it.
"""
