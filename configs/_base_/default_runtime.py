# Nothing here uses this file (see schedules/schedule_retinaface_sgd.py): the name under which the
# reference's own files expect their runtime settings.
checkpoint_config = dict(interval=1)
log_config = dict(interval=50, hooks=[dict(type="TextLoggerHook")])
log_level = "INFO"
load_from = None
resume_from = None
