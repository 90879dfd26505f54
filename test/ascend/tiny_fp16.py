# As tiny.py; on a CPU, convolutions of fp32 pass through fp16 as on a 910A (fp16_convolutions.py).
_base_ = ["tiny.py"]
custom_imports = dict(imports=["fp16_convolutions"])
