"""Probes (Herrmann et al. 2024, Kofinas et al. 2024): what classifiers answer to images that nobody drew, as inputs."""

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

from ..backends.files import replacing
from ..ir import GmncError
from ..ir.files import FileState
from .members import Zoo
from .progress import OnProgress

__all__ = ["WithProbeResponses", "probe_images", "probe_responses", "standardised"]

_LEAST_LOG, _MOST_DEVIATIONS = -20.0, 6.0
_POINTS, _PEN = 64, 0.06
"""Of a curve; its half width as a part of the image."""
_MOST = 1 << 14
"""Images: those of 28 by 28 places are 50 MB."""


@cache
def probe_images(count: int, size: int) -> np.ndarray:
    """Images of one or two random curves (cubic Bezier), float32 [count, 1, size, size], mean 0 and deviation 1.

    Always the same ones for the same count. They are drawn by chance, and no network was trained on them.
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
    """What each member of a zoo of classifiers gives for `probe_images`, by ONNX Runtime: float32 [n, count, classes].

    Written into the zoo's cache. on_progress: called with what is done, members run, and members in all. Raises
    `GmncError` if a member does not take a batch of square grey images, or if too many images are asked for.
    """
    if count > _MOST:
        raise GmncError(f"probes: at most {_MOST:,}, not {count:,}")
    path = zoo.cache / f"probe-responses-{count}-of-{len(zoo)}.safetensors"
    state = hashlib.sha256(f"{zoo.state} {Path(__file__).read_text(encoding='utf-8')}".encode()).hexdigest()
    found = _kept(path, state, (len(zoo), count))
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
    """Logarithms of the probabilities of all answers, float32 [n, count * classes], for a metanetwork to read.

    Each in deviations from its mean over the members `train`, int64 [t], and bounded. NaN counts as 0 in that mean, and
    becomes the mean.
    """
    logs = torch.log_softmax(torch.from_numpy(given), dim=-1).flatten(1).clamp(min=_LEAST_LOG)
    own = logs[torch.from_numpy(train)].nan_to_num()
    scaled = (logs - own.mean(0)) / own.std(0, correction=0).clamp(min=1e-3)
    return scaled.nan_to_num().clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS).numpy()


class WithProbeResponses(nn.Module):
    """Readers of a network that do not know of each other: a metanetwork, and an MLP on answers to probes.

    metanet: gives [G, 1]; None: only answers are read. probes: how many answers a network gives. dropout: of the MLP
    alone, as there may be more answers than networks that train.
    """

    def __init__(self, metanet: nn.Module | None, probes: int, hidden: int = 128, dropout: float = 0.4) -> None:
        super().__init__()
        first = [nn.Linear(probes, hidden), nn.SiLU(), nn.Dropout(dropout)]
        second = [nn.Linear(hidden, hidden // 2), nn.SiLU(), nn.Dropout(dropout)]
        own = nn.Sequential(*first, *second, nn.Linear(hidden // 2, 1))
        self.readers = nn.ModuleList([own] if metanet is None else [own, metanet])

    def forward(self, graph: object, given: torch.Tensor) -> torch.Tensor:
        """What each reader gives, [G, 1] or [G, 2]. graph: as the metanetwork takes it. given: [G, probes]."""
        own, *others = self.readers
        return torch.cat([own(given), *(metanet(graph) for metanet in others)], dim=1)


def _kept(path: Path, state: str, shape: tuple[int, int]) -> np.ndarray | None:
    """What is in the cache, None if it is of another state or damaged."""
    try:
        FileState.of(path)
        with safe_open(path, framework="np") as file:
            found, about = file.get_tensor("responses"), file.metadata()
        same = about["state"] == state and about["sum"] == str(zlib.crc32(found.tobytes())) and found.shape[:2] == shape
    except Exception:  # whatever is wrong with a cache, it is made again
        return None
    return found if same else None


def _run(path: Path, count: int) -> np.ndarray:
    """float32 [count, classes]."""
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
