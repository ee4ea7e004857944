"""Oracles: packages written into a temporary folder whose prose is known, and installed packages for the real thing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from potstill.data import docstrings
from potstill.data.docstrings import docstring_task_rows, mask_names, read_paragraphs, versions_key
from potstill.errors import DataError

FIRST = '''"""The first package has a docstring at the top of its module."""
raise RuntimeError("imported")
class A:
    """The class of this package is called by a letter."""
    size: int
    """The size of the thing is counted in whole metres."""
    def method(self):
        """The method of the class does not do anything at all."""
        text = """This string is a value and not a docstring of any kind."""
'''
SECOND = '''"""The class, of this package, is called by a letter."""
def f():
    """The second package is about something else entirely, as readers will see."""
'''


def write_package(folder: Path, name: str, source: str, version: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(source)
    (folder / name / "broken.py").write_text('"""The file that does not parse at all."""\ndef (:\n')
    (folder / name / "tests").mkdir()
    (folder / name / "tests" / "more.py").write_text('"""The tests of a package are not read for the corpus."""')
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def two_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    write_package(site, "stillfirst", FIRST, "1.0")
    write_package(site, "stillsecond", SECOND, "1.0")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(docstrings, "LIBRARIES", {"stillfirst": "stillfirst", "stillsecond": "stillsecond"})
    return tmp_path


def test_every_docstring_is_read_once_without_importing(two_packages: Path) -> None:
    found = [(paragraph.source, paragraph.text) for paragraph in read_paragraphs()]
    assert found == [
        ("stillfirst", "The first package has a docstring at the top of its module."),
        ("stillfirst", "The class of this package is called by a letter."),
        ("stillfirst", "The size of the thing is counted in whole metres."),
        ("stillfirst", "The method of the class does not do anything at all."),
        ("stillsecond", "The second package is about something else entirely, as readers will see."),
    ]
    assert not {"stillfirst", "stillsecond"} & set(sys.modules)


def test_order_of_the_libraries_asked_for_changes_nothing(two_packages: Path) -> None:
    backward = read_paragraphs(["stillsecond", "stillfirst"], two_packages / "a")
    assert backward == read_paragraphs(["stillfirst", "stillsecond"], two_packages / "b")


def test_second_reading_comes_from_the_cache(two_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_paragraphs()
    monkeypatch.setattr(docstrings, "_distinct", lambda _: pytest.fail("parsed again"))
    assert read_paragraphs() == first


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-40], lambda text: text.replace("size", "sise"), lambda _: "", lambda _: "[]\n{"]
)
def test_damaged_cache_is_built_again(two_packages: Path, damage) -> None:  # type: ignore[no-untyped-def]
    first = read_paragraphs()
    (cache,) = (two_packages / "cache").iterdir()
    cache.write_text(damage(cache.read_text()))
    assert read_paragraphs() == first
    assert [path.name for path in (two_packages / "cache").iterdir()] == [cache.name]


def test_new_version_of_a_package_gives_a_new_key(two_packages: Path) -> None:
    before = versions_key()
    info = two_packages / "site" / "stillfirst-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stillfirst\nVersion: 1.1\n")
    assert versions_key() != before


def test_cache_folder_that_cannot_be_written_costs_nothing_but_time(two_packages: Path) -> None:
    (two_packages / "file").write_text("")
    assert len(read_paragraphs(cache_dir=two_packages / "file" / "below")) == 5


def test_library_that_is_not_installed_is_named(two_packages: Path) -> None:
    with pytest.raises(DataError, match="no_such_library"):
        read_paragraphs(["no_such_library"])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Calls np.sum and torch.nn.Linear.", "Calls library.sum and library.nn.Linear."),
        ("As in scikit-learn or sklearn.", "As in library or library"),
        ("Upload it to the Hugging Face Hub, or PyTorch.", "Upload it to the library, or library"),
        ("A DataFrame of pandas.", "A DataFrame of library"),
        ("The input is a number.", "The input is a number."),
    ],
)
def test_names_of_libraries_are_masked(text: str, masked: str) -> None:
    assert mask_names(text).rstrip(".") == masked.rstrip(".")


def test_every_library_and_its_distribution_are_masked_by_name() -> None:
    for name, distribution in docstrings.LIBRARIES.items():
        assert mask_names(f"This is {name} here, {distribution} there.") == "This is library here, library there."


def task_of(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], **options: int) -> tuple[list[str], list[str]]:
    words = "row of the task that is long enough to be told apart from others"
    rows = [docstrings.Paragraph(f"{name} {i} {words}", name) for name, size in sizes.items() for i in range(size)]
    monkeypatch.setattr(docstrings, "read_paragraphs", lambda: rows)
    return docstring_task_rows(**options)


def test_task_is_capped_and_leaves_small_libraries_out(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = task_of(monkeypatch, {"aa": 50, "bb": 10, "cc": 9}, limit_per_library=30)
    assert {label: labels.count(label) for label in labels} == {"aa": 30, "bb": 10}
    assert len(set(texts)) == 40
    assert all(text.startswith(label) for text, label in zip(texts, labels, strict=True))


def test_task_is_the_same_for_the_same_seed_and_shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (
        task_of(monkeypatch, {"aa": 40, "bb": 40}, limit_per_library=30, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first[1] != sorted(first[1])


def test_texts_equal_after_masking_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "names of the libraries are all that tells these two texts from one another"
    rows = [docstrings.Paragraph(f"{name} {words}", name) for name in ("numpy", "scipy")]
    monkeypatch.setattr(docstrings, "read_paragraphs", lambda: rows)
    assert docstring_task_rows(limit_per_library=1) == ([f"library {words}"], ["numpy"])


def test_prose_of_installed_packages_is_plenty_and_plain(tmp_path: Path) -> None:
    found = read_paragraphs(["accelerate", "jinja2"], tmp_path)
    assert len(found) > 1000
    for paragraph in found:
        assert paragraph.text == " ".join(paragraph.text.split())
        assert not set(paragraph.text) & set("{}<>|\\`=$@*")
        assert ">>>" not in paragraph.text


def test_reading_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, potstill.data.docstrings, potstill.data.tokens, potstill.data.batches, potstill.data.masking\n"
    code += "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
