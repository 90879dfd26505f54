# Nothing here uses this file. The reference's own files (base_*.py, scrfdgen2.5g_0.py) name it as
# their base; with it, they load unchanged from configs/scrfd/.
optimizer = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="step", warmup="linear", warmup_iters=500, warmup_ratio=0.001, step=[55, 68])
total_epochs = 80
