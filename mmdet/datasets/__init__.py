"""Label files and images in, `Batch`es of fixed shapes out; nothing here touches an accelerator.

Read in this order: labels/ (one reader per format), faces (the data set), cache, transforms/, sampler,
collate, loader (with notes), device_augment, build, draw. toy/ makes a drawn data set.
"""
