"""Oracles: blocks packed by hand, texts as the tokenizer encodes them in memory, and properties."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from potstill.data import tokens
from potstill.data.token_files import Blocks, build_blocks, encode_once
from potstill.data.tokens import TextTokenizer
from potstill.errors import DataError

PARTS = ("input_ids", "offsets", "token_types", "n_tokens", "truncated")
TEXTS = ["the cat sat", "", "dogs running " * 40, ("a cat", "the dogs"), ("the cat " * 30, "on the mat " * 20)]


def unread() -> Iterator[str]:
    pytest.fail("the texts were read again")
    yield ""


# Texts of a task ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_texts_on_disk_are_those_encoded_in_memory(
    bert: TextTokenizer, roberta: TextTokenizer, tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tokenizer in (bert, roberta):
        expected = tokenizer.encode(TEXTS, 16)
        monkeypatch.setattr(tokens, "_CHUNK_TEXTS", chunk)
        kept = encode_once(iter(TEXTS), tokenizer, 16, tmp_path, key="k")
        for name in PARTS:
            array, wanted = getattr(kept, name), getattr(expected, name)
            assert (array is None) == (wanted is None)
            assert wanted is None or (array.dtype == wanted.dtype and np.array_equal(array, wanted))


def test_texts_are_memory_mapped_and_opened_again_without_being_read(bert: TextTokenizer, tmp_path: Path) -> None:
    first = encode_once(TEXTS, bert, 16, tmp_path, key="k")
    again = encode_once(unread(), bert, 16, tmp_path, key="k")
    assert isinstance(again.input_ids, np.memmap)
    assert isinstance(again.token_types, np.memmap)
    assert (first.fingerprint, first.notes) == (again.fingerprint, again.notes)
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in PARTS)


def test_texts_length_and_tokenizer_are_each_part_of_the_key(
    bert: TextTokenizer, roberta: TextTokenizer, tmp_path: Path
) -> None:
    kept = [
        encode_once(TEXTS, tokenizer, length, tmp_path, key=key)
        for tokenizer, length, key in ((bert, 16, "k"), (bert, 16, "l"), (bert, 17, "k"), (roberta, 16, "k"))
    ]
    assert len({encoded.fingerprint for encoded in kept}) == 4


def test_the_note_names_the_size_and_no_folder(bert: TextTokenizer, tmp_path: Path) -> None:
    (note,) = encode_once(["the cat sat", "a"], bert, 16, tmp_path, key="k").notes
    assert note.startswith("8 tokens of 2 texts kept in the cache folder as texts-")
    assert note.endswith(" MB")
    assert str(tmp_path) not in note


def test_no_texts_are_kept_as_empty_arrays(bert: TextTokenizer, tmp_path: Path) -> None:
    encoded = encode_once([], bert, 16, tmp_path, key="k")
    assert (len(encoded), len(encoded.input_ids), encoded.offsets.tolist()) == (0, 0, [0])


@pytest.mark.parametrize("texts", [["a", 3.5], ["a", ("b",)]])
def test_row_that_is_no_text_leaves_nothing_on_disk(bert: TextTokenizer, tmp_path: Path, texts: list[object]) -> None:
    with pytest.raises(DataError, match="row 1 is not text"):
        encode_once(texts, bert, 16, tmp_path / "cache", key="k")  # type: ignore[arg-type]
    assert list((tmp_path / "cache").iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_texts(bert: TextTokenizer, tmp_path: Path) -> None:
    peaks = []
    for n_texts in (2_000, 20_000):
        tracemalloc.start()
        encode_once(("the cat sat on the mat " * 4 for _ in range(n_texts)), bert, 64, tmp_path, key=str(n_texts))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


# Blocks of a corpus ------------------------------------------------------------------------------------------------


def spelled(tokenizer: TextTokenizer, blocks: Blocks) -> list[str]:
    return [" ".join(tokenizer.backend.id_to_token(int(i)) for i in blocks.row(n)) for n in range(len(blocks))]


def test_blocks_are_those_packed_by_hand(bert: TextTokenizer, tmp_path: Path) -> None:
    """Six tokens a block: the first ends in the middle of a text, the second on a separator, the third is the rest."""
    texts = ["the cat sat on", "", "the mat a", "dog", "run the cat"]
    blocks = build_blocks(texts, bert, 8, tmp_path, key="k")
    assert spelled(bert, blocks) == [
        "[CLS] the cat sat on [SEP] the [SEP]",
        "[CLS] mat a [SEP] dog [SEP] run [SEP]",
        "[CLS] the cat [SEP]",
    ]
    assert blocks.notes == ("4 texts packed into 3 blocks of 20 tokens", "1 texts without a token skipped")
    assert (blocks.n_tokens, blocks.n_texts, blocks.lengths.tolist()) == (20, 4, [8, 8, 4])


def test_separator_on_the_rim_of_a_block_is_left_out(bert: TextTokenizer, tmp_path: Path) -> None:
    ends = build_blocks(["the cat sat on a", "dog"], bert, 8, tmp_path, key="ends")
    assert spelled(bert, ends) == ["[CLS] the cat sat on a [SEP]", "[CLS] dog [SEP]"]
    begins = build_blocks(["the cat sat on a mat", "dog"], bert, 8, tmp_path, key="begins")
    assert spelled(bert, begins) == ["[CLS] the cat sat on a mat [SEP]", "[CLS] dog [SEP]"]


def corpus(n: int = 300) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(["the", "cat", "dogs", "mat", "."], size=rng.integers(0, 30))) for _ in range(n)]


def test_no_token_of_the_corpus_is_lost_and_counts_are_those_of_the_blocks(bert: TextTokenizer, tmp_path: Path) -> None:
    texts = corpus()
    blocks = build_blocks(texts, bert, 16, tmp_path, key="k")
    inside = np.asarray(blocks.input_ids)
    ordinary = inside[~np.isin(inside, [bert.cls_id, bert.sep_id])]
    expected = [i for text in texts for i in bert.backend.encode(text, add_special_tokens=False).ids]
    assert ordinary.tolist() == expected
    assert np.array_equal(blocks.token_counts, np.bincount(inside, minlength=bert.vocab_size))
    assert blocks.lengths.max() <= 16
    for n in range(len(blocks)):
        assert (blocks.row(n)[0], blocks.row(n)[-1]) == (bert.cls_id, bert.sep_id)


def test_chunks_change_no_block(bert: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_blocks(corpus(), bert, 16, tmp_path / "a", key="k")
    monkeypatch.setattr(tokens, "_CHUNK_CHARACTERS", 100)
    pieces = build_blocks(iter(corpus()), bert, 16, tmp_path / "b", key="k")
    assert np.array_equal(whole.input_ids, pieces.input_ids)
    assert np.array_equal(whole.offsets, pieces.offsets)


def test_blocks_are_memory_mapped_and_opened_again_without_the_texts(bert: TextTokenizer, tmp_path: Path) -> None:
    first = build_blocks(corpus(), bert, 16, tmp_path, key="k")
    again = build_blocks(unread(), bert, 16, tmp_path, key="k")
    assert isinstance(again.input_ids, np.memmap)
    assert np.array_equal(first.input_ids, again.input_ids)
    assert (first.notes, first.fingerprint) == (again.notes, again.fingerprint)


def test_cache_folder_is_that_of_the_environment(
    bert: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    build_blocks(["the cat"], bert, 16, key="k")
    encode_once(["the cat"], bert, 16, key="k")
    kinds = {path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()}
    assert kinds == {"blocks", "texts"}


def test_corpus_length_and_tokenizer_are_each_part_of_the_key(
    bert: TextTokenizer, roberta: TextTokenizer, tmp_path: Path
) -> None:
    built = [
        build_blocks(["the cat"], tokenizer, length, tmp_path, key=key)
        for tokenizer, length, key in ((bert, 16, "k"), (bert, 16, "l"), (bert, 17, "k"), (roberta, 16, "k"))
    ]
    assert len({blocks.fingerprint for blocks in built}) == 4


def test_token_types_of_blocks_are_zero_where_the_tokenizer_has_any(
    bert: TextTokenizer, roberta: TextTokenizer, tmp_path: Path
) -> None:
    types = build_blocks(["the cat"], bert, 16, tmp_path, key="k").token_types
    assert types is not None
    assert types.tolist() == [0, 0, 0, 0]
    assert build_blocks(["the cat"], roberta, 16, tmp_path, key="k").token_types is None


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_corpus_without_text_is_refused(bert: TextTokenizer, tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="holds no text"):
        build_blocks(texts, bert, 16, tmp_path, key="k")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [7, 513])
def test_impossible_block_length_is_refused(bert: TextTokenizer, tmp_path: Path, length: int) -> None:
    with pytest.raises(DataError, match="block length"):
        build_blocks(["the cat"], bert, length, tmp_path, key="k")
