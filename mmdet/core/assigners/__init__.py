"""Assigners decide which anchors learn which face. There is one: atss.py."""

from mmdet.core.assigners.atss import ATSSAssigner

__all__ = ["ATSSAssigner"]
