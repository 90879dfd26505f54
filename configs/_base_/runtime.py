# Saving every 10 epochs and keeping 3 leaves something to resume from; the published recipes save
# every 80 to 640 epochs only.
checkpoint_config = dict(interval=10, max_keep_ckpts=3)
evaluation = dict(interval=80, metric="widerface")
log_config = dict(interval=100, hooks=[dict(type="TextLoggerHook")])
log_level = "INFO"
load_from = None
resume_from = None
