"""Label files and images in, `Batch`es of fixed shapes out; nothing here touches an accelerator.

Read in this order: labelv2, images, transforms/, widerface, collate, sampler, loader, build.
"""
