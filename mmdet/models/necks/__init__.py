"""Necks: backbone maps to the maps a head sees. There is one, pafpn.py."""
