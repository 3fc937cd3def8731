"""Search spaces: sets of architectures that can be drawn, varied, checked, sized and built.

`registry` has them by name; `base` says what a space is; each family has a file of its own, of layers in `blocks`.
"""
