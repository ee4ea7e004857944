"""How parameters move; knows no task."""
