"""Vocabularies cut down. Oracles: the whole tokenizer, and the run's own predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing, TemplateProcessing

from potstill.bundle import read_bundle
from potstill.data.tokens import TextTokenizer
from potstill.errors import ModelError
from potstill.export import source, stage
from potstill.export.vocabulary import trim_vocabulary, used_ids
from potstill.runtime.bundle_predictor import BundlePredictor

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "good",
    "bad",
    "film",
    "##s",
    "a",
    "b",
    "##a",
    "##b",
    "day",
    "##day",
]
TEXTS = ["good film", "films", "a"]


def tokenizer(processor):
    made = Tokenizer(WordPiece({piece: number for number, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.add_special_tokens(PIECES[:5])
    made.pre_tokenizer = Whitespace()
    made.post_processor = processor
    return made


PROCESSORS = {
    "bert": BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "template": TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]),
}


@pytest.mark.parametrize("name", ["bert", "template"])
def test_texts_that_were_used_keep_their_pieces_under_new_numbers(name):
    whole = TextTokenizer.from_backend(tokenizer(PROCESSORS[name]))
    used = used_ids(whole.encode_chunks(TEXTS, 512), whole.vocab_size)
    trimmed = trim_vocabulary(whole.backend.to_str(), used)
    left = TextTokenizer.from_backend(Tokenizer.from_str(trimmed.content))
    assert [PIECES[number] for number in trimmed.kept] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s", "a", "b", "##a", "##b",
    ]  # fmt: skip
    for text in TEXTS:
        (before,), (after,) = (one.encode([text], 512).input_ids[None] for one in (whole, left))
        np.testing.assert_array_equal(trimmed.kept[after], before)
    assert left.vocab_size == len(trimmed.kept)


def test_other_words_are_spelt_in_smaller_pieces_or_unknown():
    content = tokenizer(PROCESSORS["bert"]).to_str()
    used = np.zeros(len(PIECES), dtype=bool)
    left = Tokenizer.from_str(trim_vocabulary(content, used).content)
    assert left.encode("ab day").tokens == ["[CLS]", "a", "##b", "[UNK]", "[SEP]"]


def test_tokens_that_were_added_behind_the_vocabulary_stay_and_move_up():
    made = tokenizer(PROCESSORS["bert"])
    made.add_tokens(["<url>"])
    assert made.token_to_id("<url>") == len(PIECES)
    trimmed = trim_vocabulary(made.to_str(), np.zeros(len(PIECES), dtype=bool))
    left = Tokenizer.from_str(trimmed.content)
    assert trimmed.kept[-1] == len(PIECES)
    found = left.encode("a <url>")
    assert found.tokens == ["[CLS]", "a", "<url>", "[SEP]"]
    assert trimmed.kept[found.ids].tolist() == made.encode("a <url>").ids


def test_a_file_that_says_nothing_of_padding_is_trimmed_too():
    content = json.loads(tokenizer(PROCESSORS["bert"]).to_str())
    del content["padding"], content["truncation"]
    assert trim_vocabulary(json.dumps(content), np.ones(len(PIECES), dtype=bool)).kept.tolist() == list(range(15))


def test_another_kind_of_tokenizer_is_refused():
    content = Tokenizer(BPE({"a": 0}, [])).to_str()
    with pytest.raises(ModelError, match="only a WordPiece vocabulary"):
        trim_vocabulary(content, np.ones(1, dtype=bool))


@pytest.mark.slow
def test_a_bundle_of_fewer_pieces_is_held_against_its_run(classifiers, tmp_path, monkeypatch):
    def all_but_some(encoded, size):
        used = used_ids(encoded, size)
        used[[5, 6, 7]] = False  # three words behind the special tokens; single characters would stay
        return used

    monkeypatch.setattr(source, "used_ids", all_but_some)
    bundle = stage.export_run(classifiers["reviews"], tmp_path / "bundle", arithmetic="fp32", trim=True, force=True)
    kept = read_bundle(tmp_path / "bundle").vocabulary
    assert kept is not None
    assert (kept.kept, kept.of) == (108, 111)
    pieces = json.loads((tmp_path / "bundle" / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(pieces.values()) == list(range(kept.kept))
    assert bundle["gate"]["logit_difference"]["allowed"] is None
    assert len(BundlePredictor.open(tmp_path / "bundle").predict(["a good film"]).logits) == 1
