"""Names on the Hugging Face hub."""

import pathlib

from plumbline import UserError

PREFIX = "hf:"

# What is fetched of a repository: never a pickle.
_PATTERNS = ["*.json", "*.safetensors"]
_ADDRESS = "https://huggingface.co"


def download(source: str) -> pathlib.Path:
    """The directory that holds the files of `hf:ORG/NAME`, fetched if it is not there yet.

    Raises:
      UserError: it is no such name, `huggingface_hub` is not installed, or the hub cannot be reached or has it not.
    """
    name = source.removeprefix(PREFIX)
    parts = name.split("/")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"transfer.source: '{source}' is no name on the hub; write hf:ORG/NAME")
    by_hand = (
        "download config.json, model.safetensors and preprocessor_config.json or tokenizer.json from "
        f"{_ADDRESS}/{name}/tree/main into a directory and give that"
    )
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"transfer.source: '{source}' needs the package huggingface_hub, which is not installed; install it, or "
            f"{by_hand}"
        ) from None
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=_PATTERNS))
    except Exception as error:  # Of the hub, of HTTP libraries, of the network.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"transfer.source: could not fetch '{source}' ({reason}); {by_hand}") from None
