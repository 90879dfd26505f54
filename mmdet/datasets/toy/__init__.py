"""The drawn data set: faces.py makes it, draw.py paints one head."""
