"""Explanation of a proxy: its parts, what each correlates with, and what the ranking is without it."""
