"""Subinterpreters and the end of the interpreter."""  # being written by the second helper
