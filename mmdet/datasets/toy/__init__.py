"""A drawn data set in the shape of WIDER FACE, for tests, benchmarks and first tries without a download.

Read faces (what is in an image, and the files), then draw (how it is painted).
"""
