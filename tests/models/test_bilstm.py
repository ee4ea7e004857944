"""The BiLSTM: padding and company change nothing, attention is a distribution over tokens, and what is saved opens."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from potstill.errors import ModelError
from potstill.models.bilstm import BilstmConfig, BilstmModel, new_bilstm
from potstill.models.teacher import accepted_inputs, load_classifier, longest_input, open_classifier

VOCABULARY, WIDTH = 60, 8
LABELS = ("no", "yes", "maybe")


def config(**changes):
    shape = {"vocab_size": VOCABULARY, "embedding_size": WIDTH, "hidden_size": 6, "initializer_range": 0.5}
    labels = {"id2label": dict(enumerate(LABELS)), "problem_type": "single_label_classification"}
    return BilstmConfig(**{**shape, **labels, **changes})


def build(seed=1, **changes):
    weighting = changes.get("token_weighting", "none")
    weights = None if weighting == "none" else torch.linspace(0.2, 3, VOCABULARY)
    return new_bilstm(config(**changes), seed=seed, token_weights=weights)


VARIANTS = [{}, {"num_hidden_layers": 2}, {"token_weighting": "embeddings"}, {"token_weighting": "attention"}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_padding_and_company_change_nothing(changes, padded_batch):
    # oracle: the same model on each text alone, without padding and without a mask
    model = build(**changes)
    lengths = padded_batch["attention_mask"].sum(1).tolist()
    with torch.inference_mode():
        together = model(**padded_batch)
        wider = {name: torch.nn.functional.pad(tensor, (0, 7)) for name, tensor in padded_batch.items()}
        torch.testing.assert_close(model(**wider).logits, together.logits, rtol=0, atol=1e-6)
        for row, length in enumerate(lengths):
            alone = model(padded_batch["input_ids"][row : row + 1, :length])
            torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=0, atol=1e-6)
    assert together.logits.std() > 0.01


def test_what_stands_on_the_padding_changes_nothing(padded_batch):
    model, mask = build(token_weighting="embeddings"), padded_batch["attention_mask"]
    others = torch.where(mask.bool(), padded_batch["input_ids"], 7)
    with torch.inference_mode():
        assert torch.equal(model(others, mask).logits, model(**padded_batch).logits)


def test_states_are_those_of_both_directions_over_each_text(padded_batch):
    # oracle: torch's own bidirectional LSTM on the text alone
    model = build().bilstm
    both, ids = torch.nn.LSTM(WIDTH, 6, batch_first=True, bidirectional=True), padded_batch["input_ids"][1:2, :5]
    halves = {"": model.layers[0].from_left, "_reverse": model.layers[0].from_right}
    both.load_state_dict(
        {f"{name}{suffix}": tensor for suffix, half in halves.items() for name, tensor in half.state_dict().items()}
    )
    with torch.inference_mode():
        expected = both(model.embeddings(ids))[0][0]
    with torch.inference_mode():
        states = model(**padded_batch).last_hidden_state
    torch.testing.assert_close(states[1, :5], expected, rtol=0, atol=1e-6)
    assert not states[1, 5:].any()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_attention_sums_to_one_and_is_zero_on_padding(changes, padded_batch):
    with torch.inference_mode():
        (attention,) = build(**changes)(**padded_batch, output_attentions=True).attentions
    assert attention.shape == (3, 1, 1, 9)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 1, 1))
    padding = padded_batch["attention_mask"][:, None, None] == 0
    assert not attention[padding].any()
    assert (attention[~padding] > 0).all()


def test_the_text_is_the_mean_of_its_states_by_attention(padded_batch):
    with torch.inference_mode():
        read = build().bilstm(**padded_batch, output_attentions=True)
    expected = (read.attentions[0][:, 0, 0, :, None] * read.last_hidden_state).sum(1)
    torch.testing.assert_close(read.pooler_output, expected)


def test_a_token_of_twice_the_weight_gets_twice_the_attention_where_scores_are_equal(padded_batch):
    # worked by hand: without scores, attention is the weights over their sum
    model = build(token_weighting="attention")
    with torch.inference_mode():
        model.bilstm.pooler.query.weight.zero_()
        (attention,) = model(**padded_batch, output_attentions=True).attentions
    weights = model.bilstm.token_weights[padded_batch["input_ids"]] * padded_batch["attention_mask"]
    torch.testing.assert_close(attention[:, 0, 0], weights / weights.sum(1, keepdim=True))


def test_weighted_embeddings_are_those_of_a_scaled_table(padded_batch):
    # oracle: the model without weighting, whose table holds the products
    weighted, plain = build(token_weighting="embeddings"), build()
    table = weighted.bilstm.embeddings.weight * weighted.bilstm.token_weights[:, None]
    with torch.inference_mode():
        plain.bilstm.embeddings.weight.copy_(table)
        torch.testing.assert_close(plain(**padded_batch).logits, weighted(**padded_batch).logits)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_saving_and_opening_change_nothing(changes, padded_batch, tmp_path):
    model = build(**changes)
    model.save_pretrained(tmp_path)
    opened = open_classifier(tmp_path)
    tensors, found = model.state_dict(), opened.state_dict()
    assert tensors.keys() == found.keys()
    assert all(torch.equal(tensors[name], found[name]) for name in tensors)
    with torch.inference_mode():
        assert torch.equal(opened(**padded_batch).logits, model(**padded_batch).logits)
    assert opened.config.id2label == dict(enumerate(LABELS))


def test_the_auto_classes_know_it(tmp_path):
    build().save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), BilstmConfig)
    assert isinstance(AutoModel.from_pretrained(tmp_path), BilstmModel)
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is type(build())


def test_a_missing_weight_is_refused_by_name(tmp_path):
    from safetensors.torch import load_file, save_file

    build(token_weighting="attention").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["bilstm.token_weights"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="token_weights"):
        open_classifier(tmp_path)


def test_another_set_of_labels_gets_a_head_drawn_with_the_seed(tmp_path):
    build().save_pretrained(tmp_path)
    other = {"label_names": ("a", "b"), "problem_type": "single_label_classification"}
    first, same, another = (load_classifier(tmp_path, seed=seed, **other) for seed in (1, 1, 2))
    assert torch.equal(first.classifier.weight, same.classifier.weight)
    assert not torch.equal(first.classifier.weight, another.classifier.weight)
    assert torch.equal(first.bilstm.layers[0].from_left.weight_hh_l0, build().bilstm.layers[0].from_left.weight_hh_l0)


def test_the_seed_decides_every_weight_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, same, other = build(seed=3), build(seed=3), build(seed=4)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(first.bilstm.layers[0].from_left.weight_ih_l0, other.bilstm.layers[0].from_left.weight_ih_l0)


def test_weights_are_drawn_as_the_docstring_says():
    model = build(hidden_size=32, token_weighting="attention").bilstm
    recurrent = model.layers[0].from_right.weight_hh_l0
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(32), rtol=0, atol=1e-5)
    bias = model.layers[0].from_left.bias_ih_l0 + model.layers[0].from_left.bias_hh_l0
    assert bias.reshape(4, 32).unique(dim=1).T.tolist() == [[0.0, 1.0, 0.0, 0.0]]
    assert not model.embeddings.weight[0].any()


def test_given_vectors_are_the_embeddings_but_for_the_paddings():
    vectors = torch.randn(VOCABULARY, WIDTH)
    model = new_bilstm(config(), seed=1, vectors=vectors)
    assert torch.equal(model.bilstm.embeddings.weight[1:], vectors[1:])
    assert not model.bilstm.embeddings.weight[0].any()


def test_the_model_takes_ids_and_a_mask_and_bounds_no_length_that_matters():
    model = build()
    assert accepted_inputs(model) == {"input_ids", "attention_mask"}
    assert longest_input(model) == 100_000
    assert model.get_input_embeddings() is model.bilstm.embeddings


def test_what_cannot_be_read_or_built_is_refused():
    model = build()
    with pytest.raises(ModelError, match="right"):
        model(torch.ones(1, 3, dtype=torch.long), torch.tensor([[0, 1, 1]]))
    with pytest.raises(ModelError, match="without a token"):
        model(torch.ones(1, 3, dtype=torch.long), torch.tensor([[0, 0, 0]]))
    with pytest.raises(ModelError, match="none, embeddings, attention"):
        build(token_weighting="tfidf")
    with pytest.raises(ModelError, match="another shape"):
        new_bilstm(config(), seed=1, vectors=torch.zeros(VOCABULARY, WIDTH + 1))
    with pytest.raises(ModelError, match="go together"):
        new_bilstm(config(token_weighting="attention"), seed=1)
    with pytest.raises(ModelError, match="positive"):
        new_bilstm(config(token_weighting="attention"), seed=1, token_weights=torch.zeros(VOCABULARY))
