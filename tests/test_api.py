"""Public names, signatures, stubs, and rules of the sources."""  # being written by the second helper
