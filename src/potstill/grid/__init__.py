"""Many recipes at once: the arms of a grid, the stages that they share, and the processes that do the work."""
