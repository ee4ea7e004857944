"""Small classifiers of every family with drawn weights, and rows of tokens for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from potstill.data.tokens import EncodedTexts
from potstill.models.pooled_classifier import PooledConfig, PooledForSequenceClassification

SIZES = {"vocab_size": 60, "max_position_embeddings": 40, "initializer_range": 0.3}
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "bert": lambda: BertConfig(**SIZES, **WIDE),
    "distilbert": lambda: DistilBertConfig(**SIZES, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "roberta": lambda: RobertaConfig(**SIZES, **WIDE, pad_token_id=0, type_vocab_size=1),
    "electra": lambda: ElectraConfig(**SIZES, **WIDE, embedding_size=16),
}
LENGTHS = (3, 30, 2, 17, 9, 38)


@pytest.fixture(scope="session")
def labelled():
    """A configuration that has some labels more."""

    def add(config, n_labels=3):
        config.id2label = {label: f"label-{label}" for label in range(n_labels)}
        config.label2id = {name: label for label, name in config.id2label.items()}
        config.problem_type = "single_label_classification"
        return config

    return add


@pytest.fixture(scope="session")
def family(labelled):
    """A classifier of a family, with transformers' own head."""

    def make(name, n_labels=3):
        torch.manual_seed(5)
        return AutoModelForSequenceClassification.from_config(labelled(FAMILIES[name](), n_labels)).eval()

    return make


@pytest.fixture(scope="session")
def with_head():
    """A classifier with a head of ours."""

    def make(shape, encoder="bert"):
        torch.manual_seed(5)
        labels = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
        kind = "single_label_classification"
        config = PooledConfig.around(FAMILIES[encoder](), shape, None, problem_type=kind, **labels)
        return PooledForSequenceClassification(config).eval()

    return make


@pytest.fixture(scope="session")
def rows_of_tokens():
    """Six rows of random tokens, with token types or without."""

    def make(with_types=True):
        rng = np.random.default_rng(0)
        offsets = np.r_[0, np.cumsum(LENGTHS)].astype(np.int64)
        ids = rng.integers(2, 60, offsets[-1]).astype(np.int32)
        types = rng.integers(0, 2, offsets[-1]).astype(np.int8) if with_types else None
        n_tokens = np.array(LENGTHS, dtype=np.int32)
        return EncodedTexts(ids, offsets, types, n_tokens, np.zeros(len(LENGTHS), dtype=bool))

    return make
