# For new recipes: warm-up, cosine and intervals follow the number of images and epochs, and the rate the
# images per step (AdamW at .002 is meant for 16). Set total_epochs in the file that uses this one.
optimizer = dict(type="AdamW", lr=0.002, weight_decay=0.01)
lr_config = dict(policy="auto")
auto_scale_lr = dict(base_batch_size=16)
evaluation = dict(metric="widerface")
checkpoint_config = dict(max_keep_ckpts=3)
log_level = "INFO"
