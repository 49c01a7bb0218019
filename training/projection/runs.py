"""Projecting many images, and the files that come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dnnlib.util import atomic_write
from training.generation.keys import save_dlatents
from training.generation.video import open_video
from training.image_grid import save_image_grid
from training.projection.projector import Projector
from training.projection.schedule import snapshot_steps

_COMPARISON_MOST = 64  # images in the comparison picture


@dataclass(frozen=True)
class Outputs:
    """What to write. snapshots: pictures of each image on its way; video_frames: 0 for no video; fps: of videos."""

    run_dir: Path
    snapshots: int = 5
    video_frames: int = 0
    fps: int = 30


def run_projections(
    projector: Projector,
    names: Sequence[str],
    read: Callable[[Sequence[int]], np.ndarray],
    ids: Sequence[int],
    outputs: Outputs,
) -> np.ndarray:
    """Projects images and writes files as it goes; returns distances float32 [n].

    names: of files, e.g. `image0003`; read: images at positions, uint8 or float32 [n, C, H, W] as for the projector;
    ids: what the noise of each image derives from. Written into the directory, for each image: NAME-target.png,
    NAME-stepNNNN.png, NAME-dlatents.npz (`dlatents` [1, num_layers, dlatent_size] and noise maps by name) and
    NAME.mp4 (target and projection side by side); for all: dlatents.npz and comparison.png (target, projection).
    """
    steps, run_dir = projector.options.steps, outputs.run_dir
    stops = set(snapshot_steps(outputs.snapshots, steps)) if outputs.snapshots else set()
    shots = set(snapshot_steps(outputs.video_frames, steps)) if outputs.video_frames else set()
    distances, dlatents, pairs = [], [], []
    with tqdm(total=len(names) * steps, unit="step", leave=False) as bar:
        for begin in range(0, len(names), projector.batch):
            places = range(begin, min(begin + projector.batch, len(names)))
            targets = read(places)
            pixels = to_pixels(targets)
            some = [names[index] for index in places]
            with ExitStack() as stack:
                videos = [stack.enter_context(open_video(run_dir / f"{n}.mp4", outputs.fps)) for n in some if shots]
                for name, image in zip(some, pixels, strict=True):
                    save_image_grid(image[None], run_dir / f"{name}-target.png", (1, 1))

                def on_images(
                    step: int, images: np.ndarray, some: Any = some, videos: Any = videos, pixels: Any = pixels
                ):
                    for index, (name, image) in enumerate(zip(some, to_pixels(images), strict=True)):
                        if step in stops:
                            save_image_grid(image[None], run_dir / f"{name}-step{step:04d}.png", (1, 1))
                        if step in shots:
                            videos[index].add(np.concatenate([pixels[index], image], axis=2))

                def on_step(step: int, now: np.ndarray) -> None:
                    bar.update(len(now))
                    bar.set_postfix(distance=f"{now.mean():.4g}", refresh=False)

                found = projector.project(targets, [ids[i] for i in places], stops | shots, on_images, on_step)
            finals = to_pixels(found.images)
            for index, name in enumerate(some):
                one = slice(index, index + 1)
                noise = {key: value[one] for key, value in found.noise.items()}
                save_dlatents(run_dir / f"{name}-dlatents.npz", found.dlatents[one], noise)
                if len(pairs) < _COMPARISON_MOST:
                    pairs.append((pixels[index], finals[index]))
            distances.append(found.distances)
            dlatents.append(found.dlatents)
    save_dlatents(run_dir / "dlatents.npz", np.concatenate(dlatents))
    save_image_grid(np.stack([image for pair in pairs for image in pair]), run_dir / "comparison.png", (2, len(pairs)))
    return np.concatenate(distances)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """uint8 images as they are; float32 in -1..1 to uint8, as the generator script rounds."""
    if images.dtype == np.uint8:
        return images
    return np.floor(np.clip(images * 127.5 + 128, 0, 255)).astype(np.uint8)


def write_record(path: Path, projector: Projector, facts: dict[str, Any]) -> None:
    """Write a JSON of facts (text, numbers, lists) and the projector's options."""
    content = {**facts, "options": asdict(projector.options)}
    with atomic_write(path, "w") as file:
        file.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
