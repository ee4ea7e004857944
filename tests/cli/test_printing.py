"""What a person reads in a terminal."""

from __future__ import annotations

import pytest

from potstill.cli.printing import print_rows


@pytest.mark.parametrize("name", ["seed 42 [as-it-is]", "[bold]", "a [/] b", "\\[x]"])
def test_brackets_in_a_table_are_shown(name: str, capsys: pytest.CaptureFixture[str]):
    # oracle: the text itself; rich takes [as-it-is] for markup and shows nothing of it
    print_rows("of [one]", [{"stage [1]": name}])
    shown = capsys.readouterr().out
    assert name in shown
    assert "of [one]" in shown
    assert "stage [1]" in shown
