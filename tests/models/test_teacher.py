"""Opening models: what is in the file is what is in the model, and anything else is refused by name."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from potstill.data.tokens import TextTokenizer
from potstill.errors import ModelError
from potstill.models.teacher import (
    accepted_inputs,
    check_same_vocabulary,
    check_vocabulary_fits,
    load_classifier,
    load_encoder,
    load_masked_lm,
    load_tokenizer,
    longest_input,
    open_classifier,
    resolve_model,
    select_inputs,
    untrained_masked_lm,
)

LABELS = ("bad", "good")


def classifier(folder, seed=0, labels=LABELS, problem_type="single_label_classification", **changes):
    return load_classifier(folder, label_names=labels, problem_type=problem_type, seed=seed, **changes)


def rename_tensors(folder, old, new):
    """Tamper with a checkpoint: write ``new`` for ``old`` in every tensor's name."""
    tensors = {name.replace(old, new): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def saved(tiny_masked_lm, tmp_path):
    """Save a tiny masked-language model of a family; returns the folder and the model."""

    def save(family, **changes):
        model = tiny_masked_lm(family, **changes)
        model.save_pretrained(tmp_path / family)
        return tmp_path / family, model

    return save


@pytest.fixture
def bare_encoder(tmp_path):
    """A BERT encoder saved without any head, as sentence encoders are."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    encoder = BertModel(config).eval()
    encoder.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder", encoder


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_an_untrained_model_has_the_shape_of_its_checkpoint_and_reads_none_of_its_weights(saved, family):
    folder, model = saved(family)
    (folder / "model.safetensors").write_bytes(b"nothing that could be read")
    torch.manual_seed(0)
    drawn = untrained_masked_lm(folder)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in drawn.state_dict().items()} == shapes
    assert longest_input(drawn) == longest_input(model)


# Names and folders


def test_the_alias_opens_the_teacher_inside_the_package(minilm_folder):
    assert resolve_model("minilm-l6") == str(minilm_folder)


def test_a_hub_name_is_left_as_it_is():
    assert resolve_model("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_pickles_are_refused_with_how_to_convert_them(name, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for offered in (tmp_path, tmp_path / name):
        with pytest.raises(ModelError, match=r"pickle.*save_pretrained") as refusal:
            resolve_model(offered)
        assert name in str(refusal.value)


def test_a_pickle_beside_safetensors_is_not_in_the_way(saved):
    folder, _ = saved("bert")
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    assert resolve_model(folder) == str(folder)


def test_folders_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        resolve_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no weights"):
        resolve_model(tmp_path)
    with pytest.raises(ModelError, match="no such model folder"):
        resolve_model(tmp_path / "absent")
    with pytest.raises(ModelError, match="not a file"):
        resolve_model(tmp_path / "config.json")


def test_damaged_weights_are_an_error_of_ours(saved):
    folder, _ = saved("bert")
    (folder / "model.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="cannot be opened"):
        load_masked_lm(folder)


# Masked-language models


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
def test_a_saved_masked_lm_opens_as_it_was(family, saved, padded_batch):
    folder, model = saved(family)
    loaded = load_masked_lm(folder)
    assert not loaded.head_is_new
    assert not loaded.model.training
    with torch.inference_mode():
        assert torch.equal(loaded.model(**padded_batch).logits, model(**padded_batch).logits)


def test_an_encoder_without_a_head_gets_a_fresh_one_tied_to_its_embeddings(bare_encoder, padded_batch):
    folder, encoder = bare_encoder
    loaded = load_masked_lm(folder, seed=5)
    assert loaded.head_is_new
    head = loaded.model.cls.predictions
    assert head.decoder.weight is loaded.model.bert.embeddings.word_embeddings.weight
    assert head.decoder.bias is head.bias
    with torch.inference_mode():
        last = loaded.model.bert(**padded_batch).last_hidden_state
        assert torch.equal(last, encoder(**padded_batch).last_hidden_state)
    same, other = (load_masked_lm(folder, seed=seed).model.cls.predictions.transform.dense.weight for seed in (5, 6))
    assert torch.equal(head.transform.dense.weight, same)
    assert not torch.equal(head.transform.dense.weight, other)
    assert torch.equal(head.transform.LayerNorm.weight, torch.ones(32))
    assert torch.equal(head.bias, torch.zeros(60))


def test_the_real_teacher_opens_with_a_fresh_head(minilm_folder):
    loaded = load_masked_lm("minilm-l6")
    assert loaded.head_is_new
    stored = load_file(minilm_folder / "model.safetensors")["encoder.layer.5.output.dense.weight"]
    assert torch.equal(loaded.model.bert.encoder.layer[5].output.dense.weight, stored)


def test_a_missing_encoder_tensor_is_named(bare_encoder):
    folder, _ = bare_encoder
    rename_tensors(folder, "encoder.layer.1.output.dense.bias", "other.bias")
    with pytest.raises(ModelError, match=r"bert\.encoder\.layer\.1\.output\.dense\.bias"):
        load_masked_lm(folder)


def test_an_encoder_tensor_left_over_is_named(bare_encoder):
    folder, _ = bare_encoder
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.7.output.dense.bias"] = torch.zeros(32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no place for.*encoder\.layer\.7"):
        load_masked_lm(folder)


def test_half_a_head_is_no_head(saved):
    folder, _ = saved("bert")
    rename_tensors(folder, "cls.predictions.transform.dense.weight", "elsewhere.weight")
    with pytest.raises(ModelError, match=r"cls\.predictions\.transform\.dense\.weight"):
        load_masked_lm(folder)


def test_an_encoder_tensor_of_another_size_is_named(bare_encoder):
    folder, _ = bare_encoder
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.position_embeddings.weight"] = torch.zeros(10, 32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="position_embeddings"):
        load_masked_lm(folder)


def test_an_encoder_opens_from_a_masked_lm_with_a_seeded_pooler(saved):
    folder, model = saved("bert")
    one, same = load_encoder(folder, seed=1), load_encoder(folder, seed=1)
    assert torch.equal(one.encoder.layer[3].output.dense.weight, model.bert.encoder.layer[3].output.dense.weight)
    assert torch.equal(one.pooler.dense.weight, same.pooler.dense.weight)


# Classifiers


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_a_classifier_takes_its_encoder_from_the_checkpoint_and_its_head_from_the_seed(family, saved):
    folder, model = saved(family)
    one, same, other = (classifier(folder, seed) for seed in (1, 1, 2))
    ours, theirs = one.base_model.state_dict(), model.base_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    fresh = set(one.state_dict()) - {f"{one.base_model_prefix}.{name}" for name in theirs}
    assert all(torch.equal(one.state_dict()[name], same.state_dict()[name]) for name in fresh)
    assert any(not torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in fresh)
    assert (one.config.id2label, one.config.label2id) == ({0: "bad", 1: "good"}, {"bad": 0, "good": 1})
    assert one.config.problem_type == "single_label_classification"


def test_the_head_of_a_seed_does_not_depend_on_what_was_drawn_before(saved):
    folder, _ = saved("distilbert")
    first = classifier(folder, 3).classifier.weight
    torch.rand(11)
    assert torch.equal(first, classifier(folder, 3).classifier.weight)


@pytest.mark.parametrize(
    ("family", "name"), [("bert", "bert.encoder.layer.0"), ("distilbert", "distilbert.embeddings")]
)
def test_a_renamed_encoder_tensor_stops_a_classifier(family, name, saved):
    folder, _ = saved(family)
    rename_tensors(folder, name, "renamed")
    with pytest.raises(ModelError) as refusal:
        classifier(folder)
    assert name in str(refusal.value)


def test_a_classifier_of_the_same_labels_keeps_its_head_and_of_others_does_not(saved, tmp_path):
    folder, _ = saved("distilbert")
    trained = classifier(folder, seed=1)
    trained.save_pretrained(tmp_path / "run")
    assert torch.equal(classifier(tmp_path / "run", seed=2).classifier.weight, trained.classifier.weight)
    assert classifier(tmp_path / "run", seed=2, labels=("a", "b", "c")).classifier.weight.shape == (3, 32)
    renamed = classifier(tmp_path / "run", seed=2, labels=("good", "bad"))
    assert not torch.equal(renamed.classifier.weight, trained.classifier.weight)


def test_dropout_before_the_classifier_is_set_where_the_family_keeps_it(saved):
    assert classifier(saved("distilbert")[0], dropout=0.35).dropout.p == 0.35
    assert classifier(saved("bert")[0], dropout=0.35).dropout.p == 0.35


def test_a_regression_has_one_output_and_labels_are_unique(saved):
    folder, _ = saved("distilbert")
    assert classifier(folder, labels=("score",), problem_type="regression").config.num_labels == 1
    with pytest.raises(ModelError, match="exactly one output"):
        classifier(folder, labels=("a", "b"), problem_type="regression")
    with pytest.raises(ModelError, match="name of its own"):
        classifier(folder, labels=("a", "a"))


def test_opening_a_classifier_refuses_what_is_none_and_what_lost_its_head(saved, tmp_path):
    folder, _ = saved("distilbert")
    with pytest.raises(ModelError, match="not a finished classifier"):
        open_classifier(folder)
    classifier(folder).save_pretrained(tmp_path / "run")
    assert open_classifier(tmp_path / "run").config.num_labels == 2
    rename_tensors(tmp_path / "run", "pre_classifier.weight", "elsewhere.weight")
    with pytest.raises(ModelError, match=r"pre_classifier\.weight"):
        open_classifier(tmp_path / "run")


# Inputs


def test_each_model_gets_its_own_full_inputs(tiny_masked_lm, padded_batch):
    batch = {**padded_batch, "token_type_ids": padded_batch["attention_mask"], "labels": padded_batch["input_ids"]}
    bert, distilbert, roberta = (tiny_masked_lm(family) for family in ("bert", "distilbert", "roberta"))
    assert "token_type_ids" in accepted_inputs(bert)
    assert set(select_inputs(bert, batch)) == {"input_ids", "attention_mask", "token_type_ids"}
    assert set(select_inputs(distilbert, batch)) == {"input_ids", "attention_mask"}
    assert set(select_inputs(roberta, batch)) == {"input_ids", "attention_mask"}


def test_token_types_change_what_a_bert_teacher_says(tiny_masked_lm, padded_batch):
    bert = tiny_masked_lm("bert")
    with torch.inference_mode():
        without = bert(**select_inputs(bert, padded_batch)).logits
        with_types = bert(
            **select_inputs(bert, {**padded_batch, "token_type_ids": padded_batch["attention_mask"]})
        ).logits
    assert not torch.allclose(without, with_types, atol=1e-2)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_the_longest_input_runs_and_one_more_token_does_not(family, tiny_masked_lm):
    model = tiny_masked_lm(family)
    longest = longest_input(model)
    with torch.inference_mode():
        assert model(input_ids=torch.full((1, longest), 5)).logits.shape[1] == longest
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, longest + 1), 5))


# Tokenizers


def test_tokenizers_that_agree_pass_and_those_that_differ_are_refused(tiny_tokenizer):
    own = tiny_tokenizer()
    check_same_vocabulary(own, tiny_tokenizer())
    check_same_vocabulary(own, TextTokenizer.from_backend(own.backend_tokenizer))
    with pytest.raises(ModelError, match=r"different vocabularies.*great"):
        check_same_vocabulary(own, tiny_tokenizer(("a", "great", "bad", "film")))
    with pytest.raises(ModelError, match="cut texts differently"):
        check_same_vocabulary(tiny_tokenizer(("it", "It")), tiny_tokenizer(("it", "It"), lowercase=False))


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tiny_tokenizer, tiny_masked_lm):
    check_vocabulary_fits(tiny_masked_lm("bert"), tiny_tokenizer())
    with pytest.raises(ModelError, match="more ids than the model"):
        check_vocabulary_fits(tiny_masked_lm("bert", vocab_size=8), tiny_tokenizer())


def test_the_tokenizer_of_a_model_folder_opens(saved, tiny_tokenizer, minilm_folder):
    folder, _ = saved("bert")
    tiny_tokenizer().save_pretrained(folder)
    assert load_tokenizer(folder)("a good film")["input_ids"] == [2, 5, 6, 8, 3]
    assert load_tokenizer(minilm_folder)("hello")["input_ids"] == [101, 7592, 102]


def test_a_model_folder_without_a_tokenizer_is_refused(saved, tmp_path):
    folder, _ = saved("bert")
    shutil.copytree(folder, tmp_path / "bare")
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(tmp_path / "bare")
