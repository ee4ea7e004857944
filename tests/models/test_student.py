"""Students against their teachers: the oracle is the teacher itself, run by transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForMaskedLM

from potstill.errors import ModelError
from potstill.models.origins import RANDOM, verify_origins
from potstill.models.student import initialise_student, layer_path
from potstill.models.teacher import load_masked_lm


def hidden_and_logits(model, batch):
    with torch.inference_mode():
        output = model(**batch, output_hidden_states=True)
    return output.hidden_states, output.logits


def assert_same_on_attended_tokens(student, teacher, batch, atol=1e-5):
    attended = batch["attention_mask"].bool()
    student_hidden, student_logits = hidden_and_logits(student, batch)
    teacher_hidden, teacher_logits = hidden_and_logits(teacher, batch)
    assert len(student_hidden) == len(teacher_hidden)
    for ours, theirs in zip((*student_hidden, student_logits), (*teacher_hidden, teacher_logits), strict=True):
        torch.testing.assert_close(ours[attended], theirs[attended], atol=atol, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
def test_full_depth_student_equals_its_teacher(family, tiny_masked_lm, padded_batch):
    teacher = tiny_masked_lm(family)
    student = initialise_student(teacher, n_layers=4)
    assert student.layers == (0, 1, 2, 3)
    assert_same_on_attended_tokens(student.model, teacher, padded_batch)


def test_full_depth_student_of_the_real_teacher_equals_it(minilm_folder):
    teacher = load_masked_lm(minilm_folder).model
    batch = {
        "input_ids": torch.tensor([[101, 2023, 2003, 1037, 4937, 102], [101, 7592, 102, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
    }
    assert_same_on_attended_tokens(initialise_student(teacher, n_layers=6).model, teacher, batch)


def test_bert_and_distilbert_give_distilbert_and_other_families_their_own_class(tiny_masked_lm):
    classes = {
        family: type(initialise_student(tiny_masked_lm(family), n_layers=2).model).__name__
        for family in ("bert", "distilbert", "roberta", "electra")
    }
    assert classes == {
        "bert": "DistilBertForMaskedLM",
        "distilbert": "DistilBertForMaskedLM",
        "roberta": "RobertaForMaskedLM",
        "electra": "ElectraForMaskedLM",
    }


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_student_layers_are_the_chosen_layers_of_the_teacher(family, tiny_masked_lm):
    teacher = tiny_masked_lm(family)
    student = initialise_student(teacher, n_layers=2, layer_choice=[1, 3])
    assert student.model.config.num_hidden_layers == 2
    query = {"bert": "attention.self.query", "roberta": "attention.self.query", "distilbert": "attention.q_lin"}
    ours = student.model.get_submodule(layer_path(student.model))[1]
    theirs = teacher.get_submodule(layer_path(teacher))[3]
    own_name = "attention.q_lin" if family == "bert" else query[family]
    assert torch.equal(ours.get_parameter(f"{own_name}.weight"), theirs.get_parameter(f"{query[family]}.weight"))


def test_positions_of_a_distilbert_student_hold_token_type_0(tiny_masked_lm):
    teacher = tiny_masked_lm("bert")
    student = initialise_student(teacher, n_layers=2)
    embeddings = teacher.bert.embeddings
    expected = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    assert torch.equal(student.model.distilbert.embeddings.position_embeddings.weight, expected)
    assert student.origins["distilbert.embeddings.position_embeddings.weight"] == (
        "bert.embeddings.position_embeddings.weight + bert.embeddings.token_type_embeddings.weight[0]"
    )


@pytest.mark.parametrize("initialise", ["copy", "truncate", "random"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_every_tensor_has_an_origin(family, initialise, tiny_masked_lm):
    teacher = tiny_masked_lm(family)
    student = initialise_student(teacher, n_layers=2, initialise=initialise)
    assert set(student.origins) == set(student.model.state_dict())
    random = [name for name, origin in student.origins.items() if origin == RANDOM]
    assert len(random) == (len(student.origins) if initialise == "random" else 0)
    assert verify_origins(student.model, teacher, student.origins) == len(student.origins) - len(random)


def test_output_weights_stay_tied_to_the_embeddings(tiny_masked_lm):
    for family in ("bert", "distilbert", "roberta"):
        model = initialise_student(tiny_masked_lm(family), n_layers=2).model
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_without_the_mlm_transform_only_the_transform_is_random(tiny_masked_lm):
    for family, parts in (
        ("bert", ("vocab_transform", "vocab_layer_norm")),
        ("roberta", ("lm_head.dense", "lm_head.")),
    ):
        student = initialise_student(tiny_masked_lm(family), n_layers=2, copy_mlm_transform=False)
        random = {name for name, origin in student.origins.items() if origin == RANDOM}
        assert len(random) == 4
        assert all(name.startswith(parts) for name in random)


def test_random_students_of_one_seed_are_equal_and_of_two_differ(tiny_masked_lm):
    teacher = tiny_masked_lm("bert")
    one, same, other = (
        initialise_student(teacher, n_layers=2, initialise="random", seed=seed).model.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    weight = "distilbert.transformer.layer.0.attention.q_lin.weight"
    assert not torch.equal(one[weight], other[weight])


def test_building_a_student_leaves_the_global_generator_alone(tiny_masked_lm):
    teacher = tiny_masked_lm("bert")
    before = torch.random.get_rng_state()
    initialise_student(teacher, n_layers=2, initialise="random")
    assert torch.equal(before, torch.random.get_rng_state())


def test_truncation_takes_the_leading_rows_of_each_leading_head(tiny_masked_lm):
    teacher = tiny_masked_lm("bert")
    student = initialise_student(
        teacher, n_layers=2, hidden_size=12, n_heads=3, intermediate_size=24, initialise="truncate"
    )
    name = "distilbert.transformer.layer.1.attention"
    layer = teacher.bert.encoder.layer[3]
    # By hand: 4 heads of 8 become 3 heads of 4, so rows 0–3, 8–11 and 16–19; the width of 32 becomes 12.
    rows = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    assert torch.equal(
        student.model.get_parameter(f"{name}.q_lin.weight"), layer.attention.self.query.weight[rows][:, :12]
    )
    assert torch.equal(
        student.model.get_parameter(f"{name}.out_lin.weight"), layer.attention.output.dense.weight[:12][:, rows]
    )
    lin1 = student.model.get_parameter("distilbert.transformer.layer.1.ffn.lin1.weight")
    assert torch.equal(lin1, layer.intermediate.dense.weight[:24, :12])
    assert student.origins[f"{name}.q_lin.weight"] == (
        "truncated(bert.encoder.layer.3.attention.self.query.weight[3x4 of 4x8, :12])"
    )


def test_fewer_heads_at_the_same_width_regroup_rows_and_say_so(tiny_masked_lm):
    teacher = tiny_masked_lm("roberta")
    student = initialise_student(teacher, n_layers=2, n_heads=2, initialise="truncate")
    name = "roberta.encoder.layer.0.attention.self.key.weight"
    assert torch.equal(student.model.get_parameter(name), teacher.get_parameter(name))
    assert student.origins[name] == f"truncated({name}[2x16 from 4x8, :32])"
    assert student.model.config.num_attention_heads == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_layers": 5}, "1 to 4"),
        ({"n_layers": 2, "hidden_size": 16}, 'initialise="truncate" or initialise="random"'),
        ({"n_layers": 2, "n_heads": 2}, 'initialise="truncate" or initialise="random"'),
        ({"n_layers": 2, "intermediate_size": 32}, 'initialise="truncate" or initialise="random"'),
        ({"n_layers": 2, "hidden_size": 30, "initialise": "random"}, "multiple of its heads"),
        ({"n_layers": 2, "hidden_size": 64, "initialise": "truncate"}, "wider than its teacher"),
        ({"n_layers": 2, "initialise": "copied"}, "copy, truncate, random"),
        ({"n_layers": 2, "architecture": "bert"}, "auto, distilbert, teacher"),
    ],
)
def test_shapes_that_cannot_be_are_refused_with_the_options(changes, said, tiny_masked_lm):
    with pytest.raises(ModelError) as refusal:
        initialise_student(tiny_masked_lm("bert"), **changes)
    assert said in str(refusal.value)


def test_a_random_student_may_be_wider_than_its_teacher(tiny_masked_lm):
    student = initialise_student(tiny_masked_lm("bert"), n_layers=2, hidden_size=64, n_heads=8, initialise="random")
    assert student.model.config.dim == 64
    assert student.layers is None


def test_a_bert_with_another_epsilon_keeps_its_class_and_its_outputs(tiny_masked_lm, padded_batch):
    teacher = tiny_masked_lm("bert", layer_norm_eps=1e-3)
    student = initialise_student(teacher, n_layers=4)
    assert type(student.model).__name__ == "BertForMaskedLM"
    assert "0.001" in student.notes[0]
    assert_same_on_attended_tokens(student.model, teacher, padded_batch)
    with pytest.raises(ModelError, match=r"epsilon is 0\.001"):
        initialise_student(teacher, n_layers=4, architecture="distilbert")


def test_saving_and_opening_a_student_changes_nothing(tiny_masked_lm, padded_batch, tmp_path):
    for family in ("bert", "roberta"):
        student = initialise_student(tiny_masked_lm(family), n_layers=2).model
        student.save_pretrained(tmp_path / family)
        reopened = AutoModelForMaskedLM.from_pretrained(tmp_path / family).eval()
        assert torch.equal(hidden_and_logits(student, padded_batch)[1], hidden_and_logits(reopened, padded_batch)[1])


def test_a_student_in_the_image_of_its_teacher_does_not_share_its_memory(tiny_masked_lm):
    teacher = tiny_masked_lm("roberta")
    student = initialise_student(teacher, n_layers=2).model
    before = teacher.get_input_embeddings().weight.clone()
    with torch.no_grad():
        student.get_input_embeddings().weight.add_(1.0)
    assert torch.equal(teacher.get_input_embeddings().weight, before)
