# Backbones for DamoFD-34G: 26787 MFLOPs at 640x480 are 4375 MFLOPs at 224x224.
search = dict(
    base="../damofd/DamoFD_34g.py",
    space="XXBL",
    start=(
        "SuperConvK3BNRELU(3,56,2,2)"
        "SuperResK3K3(56,112,2,96,5)"
        "SuperResK3K3(112,224,2,96,5)"
        "SuperResK3K3(224,448,2,128,3)"
        "SuperResK3K3(448,1024,2,16,1)"
    ),
    budget_mflops=4375,
    max_layers=20,
)
