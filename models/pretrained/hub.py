"""Downloads from the Hugging Face hub."""

import pathlib

from plumbline import UserError

PREFIX = "hf:"

# Files to download; never a pickle.
_PATTERNS = ["*.json", "*.safetensors"]
_ADDRESS = "https://huggingface.co"


def download(source: str) -> pathlib.Path:
    """Returns the local directory of `hf:ORG/NAME`, and downloads it if necessary.

    Raises:
      UserError: the name is invalid, `huggingface_hub` is not installed, or the hub cannot be reached or has no such
        repository.
    """
    name = source.removeprefix(PREFIX)
    parts = name.split("/")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"transfer.source: '{source}' is not a name on the hub; write hf:ORG/NAME")
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
    except Exception as error:  # Errors of the hub, of HTTP libraries, or of the network.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"transfer.source: cannot download '{source}' ({reason}); {by_hand}") from None
