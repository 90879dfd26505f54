# Backbones for DamoFD-2.5G: 2118 MFLOPs at 640x480 are 345 MFLOPs at 224x224.
search = dict(
    base="../damofd/DamoFD_2.5g.py",
    space="XXBL",
    start=(
        "SuperConvK3BNRELU(3,24,2,2)"
        "SuperResK3K3(32,32,2,32,3)"
        "SuperResK3K3(32,48,2,64,2)"
        "SuperResK3K3(48,64,2,128,2)"
        "SuperResK3K3(64,128,2,16,3)"
    ),
    budget_mflops=345,
    max_layers=20,
)
