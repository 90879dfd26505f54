"""Training: a straight loop, and hooks beside it that log, save, evaluate and average weights.

Read trainer.py (the loop), schedule, optim, ema; then hooks, log_hook, eval_hook, profile_hook, state
(checkpoints), signals, finite, logger; then speed, the options on how a step is carried out, with step and
graphs; last run.py with options and assemble, which turn a config file and the command line into a run.
"""
