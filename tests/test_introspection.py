"""all_tasks, current_task, call graphs, python -m asyncio ps."""  # being written by the second helper
