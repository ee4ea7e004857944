"""What the user asks for: sections, jobs, whole recipes and grids of them, read from files and checked."""
