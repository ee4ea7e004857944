"""The torch predictor; the oracle is plain transformers, one text at a time, unpadded."""

from __future__ import annotations

import itertools
import string

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from potstill.data.tokens import TextTokenizer
from potstill.data.windows import Windows, pool_windows
from potstill.errors import ModelError
from potstill.runtime.torch_predictor import TorchPredictor

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = SPECIAL + ["".join(pair) for pair in itertools.product(string.ascii_lowercase[:8], repeat=2)]
SIZES = {"vocab_size": len(WORDS), "max_position_embeddings": 30, "initializer_range": 0.3}
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS = {
    "bert": lambda: BertConfig(**SIZES, **WIDE),
    "distilbert": lambda: DistilBertConfig(**SIZES, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "roberta": lambda: RobertaConfig(**SIZES, **WIDE, pad_token_id=0, type_vocab_size=1),
}
TEXTS = [
    "aa bb cc",
    "dd",
    "ee ff gg hh ab ac ad ae af ag ah",
    "",
    ("aa bb", "cc dd ee"),
    " ".join(WORDS[5:60]),
    ("ab " * 30, "ba " * 5),
    "hh gg unknown",
]


def tokenizer():
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=28,
    )


@pytest.fixture
def run_folder(tmp_path):
    """A finished classifier of a family on disk, in Hugging Face layout."""

    def make(family="bert", labels=("no", "yes", "maybe"), problem_type="single_label_classification"):
        torch.manual_seed(1)
        config = CONFIGS[family]()
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        config.problem_type = problem_type
        folder = tmp_path / family
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return folder

    return make


def plain_logits(folder, texts, max_length):
    """Logits by transformers alone: each text on its own, so that nothing is ever padded."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    plain_tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        pair = (text,) if isinstance(text, str) else text
        inputs = plain_tokenizer(
            *pair,
            truncation="longest_first",
            max_length=max_length,
            return_tensors="pt",
            return_token_type_ids=model.config.model_type == "bert",
        )
        with torch.inference_mode():
            rows.append(model(**inputs).logits[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_logits_equal_plain_transformers_at_any_batch_size(family, batch_size, run_folder):
    folder = run_folder(family)
    predictor = TorchPredictor.open(folder, batch_size=batch_size)
    predictions = predictor.predict(TEXTS)
    expected = plain_logits(folder, TEXTS, predictor.max_length)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(predictions.logits, expected, atol=1e-5, rtol=1e-5)


def test_the_order_of_the_texts_changes_nothing(run_folder):
    predictor = TorchPredictor.open(run_folder(), batch_size=3)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = predictor.predict([TEXTS[i] for i in order])
    plain = predictor.predict(TEXTS)
    np.testing.assert_allclose(shuffled.logits, plain.logits[order], atol=1e-5)
    assert np.array_equal(shuffled.n_tokens, plain.n_tokens[order])


def test_token_types_of_pairs_reach_a_model_that_has_them(run_folder):
    predictor = TorchPredictor.open(run_folder("bert"))
    pair, joined = predictor.predict([("aa bb", "cc"), "aa bb cc"]).logits
    assert not np.allclose(pair, joined, atol=1e-3)
    one_type = AutoModelForSequenceClassification.from_pretrained(run_folder("bert")).eval()
    ids = torch.tensor([tokenizer()("aa bb", "cc")["input_ids"]])
    with torch.inference_mode():
        assert not np.allclose(pair, one_type(input_ids=ids).logits[0].numpy(), atol=1e-3)


def test_lengths_and_truncation_are_told_per_text(run_folder):
    predictions = TorchPredictor.open(run_folder(), max_length=10).predict(["aa bb", " ".join(["aa"] * 20), ""])
    assert predictions.n_tokens.tolist() == [4, 22, 2]
    assert predictions.truncated.tolist() == [False, True, False]
    assert predictions.ids.tolist() == ["0", "1", "2"]
    assert predictions.elapsed_s > 0


@pytest.mark.parametrize("windows", [None, Windows(2, "mean"), Windows(2, "max")], ids=str)
def test_the_rows_that_the_model_reads_give_the_logits_of_the_texts(windows, run_folder):
    predictor = TorchPredictor.open(run_folder(), max_length=8)
    predictor.windows = windows
    texts = [text for text in TEXTS if isinstance(text, str)]
    encoded = predictor.encode(texts)
    logits = predictor.logits_of(encoded.rows)
    assert len(logits) == len(encoded.owners)
    expected = logits if windows is None else pool_windows(logits, encoded.owners, windows.pooling)
    predictions = predictor.predict(texts)
    np.testing.assert_allclose(predictions.logits, expected, atol=1e-6)
    assert np.array_equal(predictions.n_tokens, encoded.n_tokens)
    assert predictions.truncated.any() == (windows is None)


def test_labels_and_problem_type_come_from_the_configuration(run_folder):
    folder = run_folder("distilbert", labels=("toxic", "rude"), problem_type="multi_label_classification")
    predictions = TorchPredictor.open(folder).predict(TEXTS)
    assert predictions.label_names == ("toxic", "rude")
    expected = 1 / (1 + np.exp(-plain_logits(folder, TEXTS, 28)))
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-5)


def test_a_regression_predicts_the_value_itself(run_folder):
    folder = run_folder("distilbert", labels=("score",), problem_type="regression")
    predicted = TorchPredictor.open(folder).predict(TEXTS).predicted
    np.testing.assert_allclose(predicted, plain_logits(folder, TEXTS, 28)[:, 0], atol=1e-5)


def test_a_model_in_training_is_evaluated_and_left_in_training(run_folder):
    folder = run_folder()
    model = AutoModelForSequenceClassification.from_pretrained(folder).train()
    labels = ("no", "yes", "maybe")
    predictor = TorchPredictor(model, TextTokenizer.open(folder), labels, "single_label_classification")
    logits = predictor.predict(TEXTS).logits
    assert model.training
    np.testing.assert_allclose(logits, plain_logits(folder, TEXTS, predictor.max_length), atol=1e-5)


def test_no_texts_give_no_predictions(run_folder):
    predictions = TorchPredictor.open(run_folder()).predict([])
    assert predictions.logits.shape == (0, 3)


def test_parameters_are_those_of_the_model(run_folder):
    folder = run_folder("distilbert")
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder))
    assert TorchPredictor.open(folder).n_parameters == model.num_parameters()


def test_bfloat16_is_close_and_only_on_request(run_folder):
    folder = run_folder("distilbert")
    exact = TorchPredictor.open(folder)
    rounded = TorchPredictor.open(folder, dtype="bfloat16")
    assert (exact.model.dtype, rounded.model.dtype) == (torch.float32, torch.bfloat16)
    logits = rounded.predict(TEXTS).logits
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, exact.predict(TEXTS).logits, atol=0.3)


def test_what_cannot_be_opened_or_asked_is_refused(run_folder):
    folder = run_folder("distilbert")
    with pytest.raises(ModelError, match="float32, bfloat16"):
        TorchPredictor.open(folder, dtype="int4")
    with pytest.raises(ModelError, match="1 to 28 tokens"):
        TorchPredictor.open(folder, max_length=29)
    with pytest.raises(ModelError, match="at least one"):
        TorchPredictor.open(folder, batch_size=0)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(ModelError, match="3 outputs"):
        TorchPredictor(model, TextTokenizer.open(folder), ("a", "b"), "single_label_classification")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        TorchPredictor.open(folder)
