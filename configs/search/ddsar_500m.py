# Backbones for DamoFD-0.5G: 403 MFLOPs at 640x480 are 65 MFLOPs at 224x224.
search = dict(
    base="../damofd/DamoFD_0.5g.py",
    space="IDW_fixfc",
    start=(
        "SuperConvK3BNRELU(3,32,2,1)"
        "SuperResIDWE1K3(8,32,2,8,1)"
        "SuperResIDWE4K3(32,48,2,32,1)"
        "SuperResIDWE1K3(48,96,2,48,1)"
        "SuperResIDWE1K3(96,128,2,96,1)"
    ),
    budget_mflops=65,
    max_layers=14,
)
