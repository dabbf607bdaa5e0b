"""python -m hotloop."""  # being written by the second helper
