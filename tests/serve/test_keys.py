"""API keys: what is admitted, and that nothing shows them."""

from __future__ import annotations

import pytest

from potstill.errors import UsageError
from potstill.serve.keys import VARIABLE, Keys, read_keys

GOOD, OTHER = "k" * 20, "another-key-of-this-server"


def test_only_whole_keys_are_admitted():
    keys = Keys([GOOD, OTHER])
    assert keys.admits(GOOD)
    assert keys.admits(OTHER)
    assert not any(keys.admits(given) for given in ("", GOOD[:-1], GOOD + "k", GOOD.upper(), "ключ", "\udcff"))


def test_keys_are_not_kept():
    keys = Keys([GOOD])
    assert repr(keys) == "Keys(1)"
    assert GOOD not in repr(vars(keys))


def test_a_file_holds_a_key_a_line(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the shop\n{GOOD}  # since May\n\n  {OTHER}\n")
    keys = read_keys(file)
    assert keys is not None
    assert keys.admits(GOOD)
    assert keys.admits(OTHER)


def test_the_environment_holds_keys_by_commas(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_keys(None) is None
    monkeypatch.setenv(VARIABLE, f"{GOOD},{OTHER}")
    keys = read_keys(None)
    assert keys is not None
    assert keys.admits(OTHER)


@pytest.mark.parametrize("content", ["", "# none\n", "short\n"])
def test_keys_that_protect_nothing_are_refused(content, tmp_path):
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(UsageError) as refused:
        read_keys(file)
    assert "short" not in str(refused.value).replace("too short", "")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "keys")


def test_without_a_key_nothing_is_told_but_health_and_the_page(fake, predictor, tmp_path):
    with fake.running({"words": predictor}, tmp_path, keys=Keys([GOOD])) as running:
        for path in ("/health", "/", "/page/main.js"):
            assert running.client.get(path).status_code == 200, path
        for path in ("/info", "/metrics", "/v1/bundles", "/openapi.json", "/models/words/info"):
            refused = running.client.get(path)
            assert (refused.status_code, refused.json()["error_type"]) == (401, "unauthorized"), path
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        for path in ("/predict", "/", "/v1/classify", "/models/words"):
            assert running.client.post(path, json={"inputs": "good"}).status_code == 401, path
        admitted = {"Authorization": f"Bearer {GOOD}"}
        assert running.client.post("/predict", json={"inputs": "good"}, headers=admitted).status_code == 200
        assert running.client.get("/info", headers={"Authorization": f"Basic {GOOD}"}).status_code == 401
    assert [call for call in predictor.calls if call == ["good"]] == [["good"]]
