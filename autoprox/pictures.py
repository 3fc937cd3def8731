"""Pictures: what each needs and how it fails. matplotlib is an extra (`plot`), imported when a picture is drawn."""


class DrawingError(ValueError):
    """A picture that cannot be drawn."""


def check_matplotlib() -> None:
    """Raise DrawingError, which says how to get it, without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DrawingError("a picture needs matplotlib: pip install 'autoprox[plot]'") from None
