"""What kind of token each one is: special, content word, function word or punctuation; and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from potstill.data.tokens import TextTokenizer

KINDS = ("cls", "sep", "content", "function", "punctuation")
"""Every token is of exactly one. A token that the vocabulary lacks counts as a content word."""

SPECIAL = ("cls", "sep")

HALF_A_LETTER = "\ufffd"
"""What decoders give for some of the bytes of a letter."""

APOSTROPHES = "'’"

CLITICS = frozenset(("s", "t", "d", "m", "ll", "re", "ve"))
"""What tokenizers leave of "it's" or "they'll" beside the word; scikit-learn's list was made for another cut."""


class TokenReader:
    """Kinds and spellings of the tokens of one tokenizer.

    Function words are scikit-learn's English stop words and what is left of contractions, looked up by whole words,
    however many tokens those have. In other languages every word counts as a content word.
    """

    def __init__(self, texts: TextTokenizer) -> None:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        self._texts = texts
        self._starts = texts.word_starts()
        self._function_words = ENGLISH_STOP_WORDS | CLITICS
        self._special = {texts.cls_id: "cls", texts.sep_id: "sep"}

    def spell(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Each token as text, without the marks by which vocabularies tell where words begin."""
        return [self._spell(int(number)) for number in ids]

    def word_starts(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """``(n,)`` bool: whether each token begins a word, as the vocabulary marks it."""
        return self._starts[np.asarray(ids)]

    def is_special(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """``(n,)`` bool: [CLS] and [SEP], whatever the tokenizer calls them."""
        return np.isin(np.asarray(ids), list(self._special))

    def kinds(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """``(n,)`` int8: the place in ``KINDS`` of each token's kind; all tokens of a word are of one kind."""
        kinds = np.empty(len(ids), dtype=np.int8)
        for start, end in self._words(ids):
            kinds[start:end] = KINDS.index(self._kind([int(number) for number in ids[start:end]]))
        return kinds

    def _kind(self, word: Sequence[int]) -> str:
        if word[0] in self._special:
            return self._special[word[0]]
        text = self._decode(word).lower()
        if not text or _is_punctuation(text):
            return "punctuation"
        return "function" if text.strip(APOSTROPHES) in self._function_words else "content"

    def _words(self, ids: Sequence[int] | np.ndarray) -> list[tuple[int, int]]:
        """Bounds of each word. Punctuation and special tokens stand alone, whatever the vocabulary joins them to.

        What an apostrophe begins is a word of its own, as tokenizers that split at all punctuation have it.
        """
        texts = [self._decode([int(number)]) for number in ids]
        alone = [int(number) in self._special or _is_punctuation(text) for number, text in zip(ids, texts, strict=True)]
        begins = self.word_starts(ids) | np.array([text.startswith(tuple(APOSTROPHES)) for text in texts], dtype=bool)
        bounds = [i for i in range(len(ids)) if i == 0 or begins[i] or alone[i] or alone[i - 1]]
        return list(zip(bounds, [*bounds[1:], len(ids)], strict=True))

    def _spell(self, number: int) -> str:
        raw = str(self._texts.backend.id_to_token(number))
        if number in self._texts.special_ids:
            return raw
        text = self._decode([number])
        return (raw if HALF_A_LETTER in text or not text else text).removeprefix("##")

    def _decode(self, ids: Sequence[int]) -> str:
        """Vocabularies of bytes write them as other letters, which only their decoder knows."""
        return str(self._texts.backend.decode(ids, skip_special_tokens=False)).strip()


def _is_punctuation(text: str) -> bool:
    """Whether it holds something, but no letter, digit or part of a letter; a bare space goes with what follows."""
    return bool(text) and not any(letter.isalnum() or letter == HALF_A_LETTER for letter in text)
