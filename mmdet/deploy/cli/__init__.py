"""What tools/scrfd.py, image_demo.py and webcam_demo.py do: files in, results and drawings out; no torch.

Read in this order: `inputs` and `video` (what can be read), `stream` (reading and finding at once), `outputs`
(names and the check before the start), `writers` and `draw`, `run` (tools/scrfd.py), `demo` (the two others).
"""
