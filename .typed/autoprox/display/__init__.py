"""What is shown of a run, on a terminal and in a notebook: its progress, and its result as tables and lines."""
