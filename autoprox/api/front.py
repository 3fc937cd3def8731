"""Front: the functions that `import autoprox` offers. Their errors name arguments as Python does."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

from autoprox.api import evolving, explaining, ranking, scoring_models, searching, training, validating

__all__ = ["evolve", "explain", "rank", "score", "search", "train", "validate"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Options of the command line whose argument has another name.
_RENAMED = {
    "bench": "benchmark",
    "leave-out-bench": "leave_out_benchmarks",
    "leave-out-task": "leave_out_tasks",
    "dask": "executor",
    "resume": "resume=True",
}
#: A command, whose options stay as they are, or an option.
_OPTION = re.compile(r"(?P<command>autoprox [a-z]+[^;,)`]*)|--(?P<option>[a-z]+(-[a-z]+)*)")


def in_python(message: str) -> str:
    """Return a message with arguments in place of options: `out` for `--out`; whole commands stay as they are."""

    def renamed(match: re.Match[str]) -> str:
        option = match["option"]
        return match["command"] or _RENAMED.get(option, option.replace("-", "_"))

    return _OPTION.sub(renamed, message)


def _of_python(function: _Function) -> _Function:
    """Return the function, whose errors name arguments as Python does and not as the command line does."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (ValueError, OSError) as error:
            if type(error).__module__.startswith("autoprox.") and len(error.args) == 1:
                error.args = (in_python(str(error)),)
            if hasattr(error, "__notes__"):
                error.__notes__ = [in_python(note) for note in error.__notes__]
            raise

    return called  # type: ignore[return-value]


evolve = _of_python(evolving.evolve)
explain = _of_python(explaining.explain)
rank = _of_python(ranking.rank)
score = _of_python(scoring_models.score)
search = _of_python(searching.search)
train = _of_python(training.train)
validate = _of_python(validating.validate)
