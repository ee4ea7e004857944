"""Tokenizers by the names that models go by, without torch and without a model's weights."""

from __future__ import annotations

from pathlib import Path

from potstill.data.tokens import TextTokenizer
from potstill.errors import ModelError
from potstill.models.aliases import ALIASES, installed_folder

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")


def open_tokenizer(name: str) -> TextTokenizer:
    """The fast tokenizer of an alias (``minilm-l6``), of a folder with a ``tokenizer.json``, or of a name on the hub.

    Raises ModelError for one that is not there or does not open.
    """
    if name in ALIASES:
        return TextTokenizer.open(installed_folder(name))
    path = Path(name).expanduser()
    if path.is_dir():
        return TextTokenizer.open(path)
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError("there is no such tokenizer folder", found=name, do="give a folder that holds tokenizer.json")
    return TextTokenizer.open(_from_hub(name))


def _from_hub(name: str) -> str:
    # Here and not at the top: the network's libraries take long to load, and most studies need none of them.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name!r} is neither a folder here nor a model that the hub gives",
            found=said[:200],
            do="check the name and the network, or give a folder that holds tokenizer.json",
        ) from error
