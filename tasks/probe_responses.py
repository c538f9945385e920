"""Probes (Herrmann et al. 2024, Kofinas et al. 2024): outputs of classifiers for generated images, as features."""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from ..files.reading import FileState
from ..files.writing import replacing
from ..ir import GmncError
from .members import Zoo
from .progress import OnProgress

__all__ = ["WithProbeResponses", "probe_images", "probe_responses", "standardised"]

_MIN_LOG, _MAX_DEVIATIONS = -20.0, 6.0
_POINTS, _PEN = 64, 0.06
"""Points per curve; half the stroke width relative to the image."""
_MAX_IMAGES = 1 << 14
"""Largest number of images; at 28 x 28 pixels they take 50 MB."""


@cache
def probe_images(count: int, size: int) -> np.ndarray:
    """Images of one or two random cubic Bezier curves, which no network was trained on.

    Args:
        count: Number of images; equal counts give equal images.
        size: Width and height in pixels.

    Returns:
        float32 [count, 1, size, size], read-only, with mean 0 and standard deviation 1.
    """
    pixel = (np.arange(size) + 0.5) / size
    at = np.stack(np.meshgrid(pixel, pixel, indexing="ij"), axis=-1)[:, :, None]
    t = np.linspace(0, 1, _POINTS)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3], axis=1)
    images = np.empty((count, 1, size, size))
    for number in range(count):
        rng = np.random.default_rng([2, number])
        points = np.concatenate([weights @ rng.uniform(0.1, 0.9, (4, 2)) for _ in range(rng.integers(1, 3))])
        distance = ((at - points) ** 2).sum(-1).min(-1)
        images[number] = np.exp(-distance / (2 * _PEN**2))
    found = ((images - images.mean()) / images.std()).astype(np.float32)
    found.flags.writeable = False
    return found


def probe_responses(zoo: Zoo, count: int, on_progress: OnProgress | None = None) -> np.ndarray:
    """Outputs of each member of a zoo of classifiers for `probe_images`, in ONNX Runtime; cached in the zoo.

    Args:
        zoo: A zoo of n classifiers.
        count: Number of images.
        on_progress: Called after each member.

    Returns:
        float32 [n, count, classes].

    Raises:
        GmncError: A member does not take a batch of square grey images, or `count` is too large.
    """
    if count > _MAX_IMAGES:
        raise GmncError(f"probes: at most {_MAX_IMAGES:,}, not {count:,}")
    path = zoo.cache / f"probe-responses-{count}-of-{len(zoo)}.safetensors"
    state = hashlib.sha256(f"{zoo.state} {Path(__file__).read_text(encoding='utf-8')}".encode()).hexdigest()
    found = _cached(path, state, (len(zoo), count))
    if found is None:
        rows = []
        for number in range(len(zoo)):
            rows.append(_run(zoo.path(number), count))
            if on_progress is not None:
                on_progress("probe responses", number + 1, len(zoo))
        found = np.stack(rows)
        with replacing(path) as temporary:
            save_file({"responses": found}, temporary, {"state": state, "sum": str(zlib.crc32(found.tobytes()))})
    return found


def standardised(given: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Standardise and clip the log-probabilities of responses.

    NaN counts as 0 in the statistics, and becomes the mean.

    Args:
        given: Responses of n networks to probes, [n, count, classes].
        train: Members over which mean and standard deviation are taken, int64 [t].

    Returns:
        float32 [n, count * classes].
    """
    logs = torch.log_softmax(torch.from_numpy(given), dim=-1).flatten(1).clamp(min=_MIN_LOG)
    own = logs[torch.from_numpy(train)].nan_to_num()
    scaled = (logs - own.mean(0)) / own.std(0, correction=0).clamp(min=1e-3)
    return scaled.nan_to_num().clamp(-_MAX_DEVIATIONS, _MAX_DEVIATIONS).numpy()


class WithProbeResponses(nn.Module):
    """An ensemble of an MLP on responses to probes and a metanetwork, which do not see each other.

    Args:
        metanet: Maps a graph to [G, 1]; None for the MLP only.
        probes: Number of responses per network.
        hidden: Width of the MLP.
        dropout: Dropout probability of the MLP, as there may be more responses than training networks.
    """

    def __init__(self, metanet: nn.Module | None, probes: int, hidden: int = 128, dropout: float = 0.4) -> None:
        super().__init__()
        first = [nn.Linear(probes, hidden), nn.SiLU(), nn.Dropout(dropout)]
        second = [nn.Linear(hidden, hidden // 2), nn.SiLU(), nn.Dropout(dropout)]
        own = nn.Sequential(*first, *second, nn.Linear(hidden // 2, 1))
        self.readers = nn.ModuleList([own] if metanet is None else [own, metanet])

    def forward(self, graph: object, given: torch.Tensor) -> torch.Tensor:
        """Read a network.

        Args:
            graph: What the metanetwork takes.
            given: Responses [G, probes].

        Returns:
            The output of each reader, [G, 1] or [G, 2].
        """
        own, *others = self.readers
        return torch.cat([own(given), *(metanet(graph) for metanet in others)], dim=1)


def _cached(path: Path, state: str, shape: tuple[int, int]) -> np.ndarray | None:
    """The cached responses; None if there are none, or they are stale or damaged."""
    try:
        FileState.of(path)
        with safe_open(path, framework="np") as file:
            found, about = file.get_tensor("responses"), file.metadata()
        same = about["state"] == state and about["sum"] == str(zlib.crc32(found.tobytes())) and found.shape[:2] == shape
    except Exception:  # a cache that cannot be read is rebuilt
        return None
    return found if same else None


def _run(path: Path, count: int) -> np.ndarray:
    """Outputs of a network for the images, float32 [count, classes]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        (found,) = session.run(None, {given.name: probe_images(count, given.shape[-1])})
    except Exception as error:
        raise GmncError(f"{path}: does not take a batch of square grey images, as probes are ({error})") from error
    return np.asarray(found, dtype=np.float32).reshape(count, -1)
