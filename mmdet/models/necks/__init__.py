"""Necks, backbone maps to the maps a head sees: `NECKS`, by the name in `model.neck.type`.

Read pafpn.py, then ssh_fpn.py.
"""

from collections.abc import Callable

from torch import nn

from mmdet.models.necks.pafpn import PAFPN
from mmdet.models.necks.ssh_fpn import SSHFPN

NECKS: dict[str, Callable[..., nn.Module]] = {"PAFPN": PAFPN, "SSHFPN": SSHFPN}
