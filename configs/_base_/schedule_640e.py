# SGD, 640 epochs; lr 0.01 is meant for 32 images per step (4 devices x 8).
optimizer = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="step", warmup="linear", warmup_iters=1500, warmup_ratio=0.001, step=[440, 544])
total_epochs = 640
auto_scale_lr = dict(base_batch_size=32)
