"""Tiny models that give their attention away, texts of their ids, and tokenizers of both kinds of vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    PreTrainedModel,
    RobertaConfig,
)

from potstill.data.tokens import EncodedTexts, TextTokenizer

SIZES = {"vocab_size": 60, "max_position_embeddings": 48, "initializer_range": 0.3, "num_labels": 3}
WIDE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS = {
    "bert": lambda: BertConfig(**SIZES, **WIDE),
    "distilbert": lambda: DistilBertConfig(**SIZES, dim=32, n_layers=3, n_heads=4, hidden_dim=64),
    "roberta": lambda: RobertaConfig(**SIZES, **WIDE, pad_token_id=1, type_vocab_size=1),
    "electra": lambda: ElectraConfig(**SIZES, **WIDE, embedding_size=16),
    "mpnet": lambda: MPNetConfig(**SIZES, **WIDE),
}
FAMILIES = tuple(CONFIGS)


@pytest.fixture(scope="session")
def tiny_classifier() -> Callable[..., PreTrainedModel]:
    """Build a classifier of a family: three layers of four heads, three labels, dropout off."""

    def build(family: str = "bert", seed: int = 0) -> PreTrainedModel:
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_config(CONFIGS[family]()).eval()

    return build


@pytest.fixture(scope="session")
def rows_of_ids() -> Callable[..., EncodedTexts]:
    """Lay rows of ids end to end, as a tokenizer does."""

    def lay(rows: Sequence[Sequence[int]]) -> EncodedTexts:
        lengths = np.array([len(row) for row in rows])
        ids = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return EncodedTexts(
            ids, offsets, np.zeros(len(ids), np.int8), lengths.astype(np.int32), np.zeros(len(rows), bool)
        )

    return lay


WORDS = ("the", "film", "was", "not", "good", "act", "##ing", "it", "'", "s", "!", ",", "they", "##'", "café", "2")


@pytest.fixture(scope="session")
def wordpiece() -> TextTokenizer:
    """WordPiece over a few words; [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4."""
    vocabulary = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = decoders.WordPiece()
    return TextTokenizer.from_backend(backend, max_length=40)


@pytest.fixture(scope="session")
def byte_level() -> TextTokenizer:
    """Byte-level BPE as RoBERTa has it, learnt from one sentence over and over."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["The film was not good, it's acting"] * 20, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return TextTokenizer.from_backend(backend, max_length=40)


@pytest.fixture(scope="session")
def random_maps() -> Callable[..., np.ndarray]:
    """Draw maps ``(layers, heads, n, n)`` float32 whose rows sum to 1, from nearly even to nearly one token alone."""

    def draw(n: int, seed: int, layers: int = 2, heads: int = 3) -> np.ndarray:
        logits: Any = np.random.default_rng(seed).normal(scale=3, size=(layers, heads, n, n))
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)

    return draw
