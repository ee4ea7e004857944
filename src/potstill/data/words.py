"""Words as tokens, for models without a pretrained tokenizer, and how much each token tells. No transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from potstill.data.batches import Ragged
from potstill.errors import DataError
from potstill.records import Text

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""Spelling by role, in the order of their ids from 0."""

_ROWS_AT_ONCE = 4096


def build_word_tokenizer(texts: Iterable[Text], *, min_count: int, max_words: int) -> Tokenizer:
    """A tokenizer of the words that occur ``min_count`` times or more in ``texts``, the ``max_words`` most frequent.

    Words are lowercased and split at spaces and punctuation, each mark a word of its own, as BERT's tokenizers do
    before they cut words into pieces; accents are kept. Any other word is [UNK], and texts and pairs are framed by
    [CLS] and [SEP] as BERT's are. Ties are broken by spelling, so the same texts give the same ids. Raises DataError
    where no word occurs often enough.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL_TOKENS["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = list(SPECIAL_TOKENS.values())
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words + len(special), min_frequency=min_count, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(_parts(texts), trainer=trainer)
    if tokenizer.get_vocab_size() == len(special):
        raise DataError(f"no word occurs {min_count} times in the training texts", do="lower bilstm.min_count")
    cls, sep = SPECIAL_TOKENS["cls"], SPECIAL_TOKENS["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return tokenizer


def _parts(texts: Iterable[Text]) -> Iterator[str]:
    for text in texts:
        if isinstance(text, str):
            yield text
        else:
            yield from text


def inverse_document_frequencies(encoded: Ragged, vocab_size: int) -> np.ndarray:
    """``(vocab,)`` float64: ``ln((1 + n) / (1 + df)) + 1`` of every token, at least 1, as scikit-learn smooths it.

    n: the texts of ``encoded``; df: those that hold the token. What no text holds weighs most.
    """
    df = np.zeros(vocab_size, dtype=np.int64)
    n_texts = len(encoded.offsets) - 1
    for start in range(0, n_texts, _ROWS_AT_ONCE):
        offsets = encoded.offsets[start : start + _ROWS_AT_ONCE + 1]
        rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        pairs = np.unique(rows * vocab_size + encoded.input_ids[offsets[0] : offsets[-1]])
        df += np.bincount(pairs % vocab_size, minlength=vocab_size)
    return np.log((1 + n_texts) / (1 + df)) + 1


def token_counts(encoded: Ragged, vocab_size: int) -> np.ndarray:
    """``(vocab,)`` int64: how often each token occurs."""
    return np.bincount(encoded.input_ids, minlength=vocab_size)
