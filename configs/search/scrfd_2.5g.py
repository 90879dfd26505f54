# Both steps of SCRFD's search at 2.5 GFLOPs; the template is a narrow ResNet-34.
search = dict(base="../scrfd/scrfdgen2.5g_0.py", gflops=2.5)
