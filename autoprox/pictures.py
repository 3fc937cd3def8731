"""Pictures: the check for matplotlib, which is an extra (`plot`) and is imported only when a picture is drawn."""


class DrawingError(ValueError):
    """A picture that cannot be drawn."""


def check_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        DrawingError: it is not; the message says how to install it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DrawingError("a picture needs matplotlib: pip install 'autoprox[plot]'") from None
