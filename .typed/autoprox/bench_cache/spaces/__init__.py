"""Search spaces: sets of architectures that can be drawn, varied, checked, sized and built.

`base` says what a space is. Each family has a file of its own, and builds its networks from the layers in `blocks`.
`registry` collects the spaces from the tuples `SPACES` of these files, and has them by name.
"""
