"""Statistics of a benchmark's networks, kept on disk and in memory, and formulas' scores from them."""
