"""Loops and processes."""  # being written by the second helper
