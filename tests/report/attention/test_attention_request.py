"""What may be asked, and the command that asks it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.errors import UsageError
from potstill.report.attention.request import AttentionRequest, pair_up

RUN, OUT = Path("runs/student"), Path("out")


def command(**wishes):
    return AttentionRequest(RUN, OUT, **wishes).command


def test_the_command_says_what_was_asked_and_what_was_taken_for_granted():
    assert command() == ("potstill attend runs/student --out out --sample 500 --seed 1 --show 5 --reach 2 --tokens 64")
    assert command(texts=["it's", "-x"], layer=1) == (
        """potstill attend runs/student --out out --text 'it'"'"'s' --text -x --layer 1 --reach 2 --tokens 64"""
    )
    drawn = command(before="teacher", task="imdb", sample=9, seed=3)
    assert "--before teacher --task imdb --sample 9 --seed 3" in drawn
    assert "--second" not in command(texts=["a"])
    assert "--text a --second b" in command(texts=[("a", "b")])


def test_the_command_names_no_folder_of_this_machine():
    request = AttentionRequest(Path("/one/run"), Path("/two/out"), before="/three/encoder", texts=["a"])
    assert request.command == "potstill attend run --out out --text a --before encoder --reach 2 --tokens 64"


def test_what_no_command_can_say_has_none():
    assert command(texts=["a", ("b", "c")]) == ""


def test_texts_are_paired_in_their_order():
    assert pair_up(["a", "b"], ["c", "d"]) == (("a", "c"), ("b", "d"))
    assert pair_up(["a", ("b", "c")], []) == ("a", ("b", "c"))
    for texts in (["a"], [("a", "x"), "b"], []):
        with pytest.raises(UsageError, match="needs its other one"):
            pair_up(texts, ["c", "d"])


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"sample": 0}, "sample is out of range; found 0; allowed: 1 to 20000"),
        ({"reach": 65}, "reach is out of range"),
        ({"tokens": 15}, "tokens is out of range"),
        ({"texts": [("a", "fine \udcff film")]}, r"lone surrogate, which is no character; found 'fine \\udcff film'"),
        ({"texts": ["a"] * 21}, "too many texts to show; found 21; allowed: 1 to 20"),
        ({"alone": True, "before": "x"}, "leave one of them out"),
        ({"texts": ["a"], "task": "imdb"}, "found 'imdb'; say with --sample"),
    ],
)
def test_wishes_that_contradict_one_another_are_refused(wishes, said):
    with pytest.raises(UsageError, match=said):
        AttentionRequest(RUN, OUT, **wishes).check()


def test_texts_may_stand_beside_a_sample():
    AttentionRequest(RUN, OUT, texts=["a"], task="imdb", sample=30).check()
