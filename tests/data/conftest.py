"""What the tests of the data room share: a cache of their own, small tokenizers, a way to write files in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers.normalizers import BertNormalizer

from potstill.data.tokens import TextTokenizer

WriteFile = Callable[[str, str | bytes], Path]


@pytest.fixture(autouse=True)
def cache_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what ``datasets`` unpacks out of the user's home."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf-cache"))


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """Writes a file below ``tmp_path`` from text or bytes, and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "dog", "##s", "##ting", "a", ".", "run"]


@pytest.fixture
def bert_backend() -> Tokenizer:
    """WordPiece over a dozen words, which gives the second text of a pair type 1."""
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


@pytest.fixture
def roberta_backend() -> Tokenizer:
    """Byte-level BPE, without token types."""
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
def bert(bert_backend: Tokenizer) -> TextTokenizer:
    """That WordPiece tokenizer as ours."""
    return TextTokenizer.from_backend(bert_backend)


@pytest.fixture
def roberta(roberta_backend: Tokenizer) -> TextTokenizer:
    """That BPE tokenizer as ours."""
    return TextTokenizer.from_backend(roberta_backend)
