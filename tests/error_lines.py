"""An error is one line."""


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text
