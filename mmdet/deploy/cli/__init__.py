"""What the command lines of tools/ do with a detector: inputs, drawing, writers."""
