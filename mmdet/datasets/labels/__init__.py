"""Label files: one reader per format."""
