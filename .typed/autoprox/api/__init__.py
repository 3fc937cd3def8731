"""The runs as Python functions, which the command line calls too: evolve, search, rank and score.

`front` is what `import autoprox` offers. Each function is in a file with the result that it returns.
"""
