# Backbones for DamoFD-10G: 8659 MFLOPs at 640x480 are 1414 MFLOPs at 224x224.
search = dict(
    base="../damofd/DamoFD_10g.py",
    space="XXBL",
    start=(
        "SuperConvK3BNRELU(3,24,2,1)"
        "SuperResK3K3(24,48,2,64,5)"
        "SuperResK3K3(48,64,2,64,5)"
        "SuperResK3K3(64,96,2,128,3)"
        "SuperResK3K3(96,128,2,16,1)"
    ),
    budget_mflops=1414,
    max_layers=20,
)
