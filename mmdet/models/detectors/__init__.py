"""Detectors: backbone, neck and head in a row, and the flat `Outputs` the rest works on."""
