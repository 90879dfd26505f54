# Step 1 of SCRFD at 2.5 GFLOPs as in the paper: 64 candidates, 80 epochs each, the AP on WIDER val decides.
# Keep a tenth of the training images for the decision: --cfg-options search.search_val=0.1
search = dict(search="scrfd_2.5g.py", mode=1, num_candidates=64, epochs=80, eval_interval=20)
