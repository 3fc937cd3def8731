"""What the commands print with: numbers, tables and consoles."""

import io
from math import inf, nan

import pytest
from rich.console import Console

from autoprox.display.terminal import (
    WIDTH,
    correlation,
    duration,
    make_console,
    make_table,
    names,
    number,
    numbers,
    progress_bar,
    say,
    size,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.12345), "0.123"),
        (number(-1.5, "+.2f"), "-1.50"),
        (number(None), "–"),
        (number(nan, ".2f"), "–"),
        (number(inf), "inf"),
        (correlation(0.548), ".548"),
        (correlation(-0.0516, 2), "-.05"),
        (correlation(1.0), "1.000"),
        (correlation(-1.0), "-1.000"),
        (correlation(nan), "–"),
        (size(5_987_432), "5.987 M"),
        (size(1.4e9), "1.400 G"),
        (size(1000), "1.000 K"),
        (size(12), "12"),
        (size(nan), "–"),
        (duration(125.9), "2:05"),
        (duration(3600), "60:00"),
        (duration(None), "–"),
        (duration(nan), "–"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected


def printed(*things: object) -> list[str]:
    console = Console(file=io.StringIO(), width=40, markup=False)
    for thing in things:
        console.print(thing)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("ruled", [True, False])
def test_a_table_has_its_title_in_one_line_and_numbers_at_the_right(ruled: bool) -> None:
    table = make_table("a title that is wider", names("task"), *numbers("n", "tau"), ruled=ruled)
    table.add_row("one", "5", "0.5")
    table.add_row("[b]", "10", "0.25")
    title, heads, *lines = printed(table)
    assert title == "a title that is wider"
    assert heads.split() == ["task", "n", "tau"]
    assert [line.split() for line in lines[-2:]] == [["one", "5", "0.5"], ["[b]", "10", "0.25"]]
    assert len({len(line) for line in (heads, *lines)}) == 1
    assert len(lines) == (3 if ruled else 2)


def test_a_console_has_a_width_and_takes_text_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = make_console()
    assert console.width == WIDTH
    say(console, "[bold]a name[/bold] :smile: " + "long " * 40 + "end")
    assert capsys.readouterr().out == "[bold]a name[/bold] :smile: " + "long " * 40 + "end\n"
    monkeypatch.setenv("COLUMNS", "80")
    assert make_console().width == 80


def test_without_a_terminal_a_bar_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(make_console(), "counting", "best") as bars:
        bars.update(bars.add_task("", total=2, best="–"), completed=1, best="0.5")
    assert capsys.readouterr().out == ""
