from __future__ import annotations

import pytest

from potstill.errors import ModelError
from potstill.models import aliases
from potstill.models.aliases import ALIASES, installed_folder


def test_an_alias_whose_package_is_absent_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(aliases, "ALIASES", {"tiny": ("no_such_package_here", "model", "pip install tiny")})
    with pytest.raises(ModelError, match="not installed; run: pip install tiny"):
        installed_folder("tiny")


@pytest.mark.parametrize("alias", ALIASES)
def test_an_installed_alias_holds_a_model(alias):
    try:
        folder = installed_folder(alias)
    except ModelError:
        pytest.skip(f"the package of {alias} is not installed")
    assert (folder / "config.json").is_file()
