"""Label files and images in, `Batch`es of fixed shapes out; nothing here touches an accelerator.

Read in this order: labelv2, images, transforms/, widerface, collate, sampler, loader (with notes), build,
draw. `toy_faces` and `toy_draw` make the toy data set.
"""
