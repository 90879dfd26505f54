"""Speed measurements: each is a ratio against a baseline that runs beside it in the same process.

Read measure first, then one subject: targets, step, data, evaluation; `baseline_*` is the reference's
algorithm written plainly, which the tests also use as an oracle. `tools/benchmark.py` starts them. Nothing
outside this package imports it.
"""
