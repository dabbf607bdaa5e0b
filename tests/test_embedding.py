"""Loops that are extended or run by others."""  # being written by the second helper
