"""Training: what one step does, the loop that repeats it, and hooks that log, save, evaluate and average.

The step: step.py (`TrainStep`, and `build_step`, the only place that builds one), with optim, batch_size,
finite (stops at a loss that is not finite), speed (options on how a step is carried out), graphs (recorded
steps).
The loop: trainer.py (`Trainer`, `Hook`, `RunFacts`), with schedule, signals, ema and state (what a checkpoint
holds, how a run resumes).
Hooks: hooks.py (checkpoints, average), log_hook, eval_hook, profile_hook; for people results_hook (table,
curves), sheet_hook (batches, detections) and progress_hook. Lines and figures go to logger and
scalar_writers. From the command line to a run: run.py, with options and assemble.

Tables that take further entries: SCHEDULES (schedule), OPTIMIZERS (optim), WRITERS (scalar_writers).
"""
