"""Any folder of images as a data set: one sub-folder per class, or one class where there is none. Every fifth file is test."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.values import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
SIDES = (8, 16, 32, 64)


def image_folder(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split of uint8 RGB images, all of the side that the first image fits best, cut square and resized by PIL's antialiased bicubic."""
    if not folder.is_dir():
        raise UserError(f"image folder not found: {folder}")
    classes = sorted(p for p in folder.iterdir() if p.is_dir()) or [folder]
    files = [(path, label) for label, sub in enumerate(classes) for path in sorted(sub.rglob("*")) if _is_image(path)]
    if len(files) < 10:
        raise UserError(f"{folder} holds {len(files)} images ({', '.join(sorted(SUFFIXES))}); at least 10 are needed")
    first = _open(files[0][0])
    side = max((s for s in SIDES if s <= min(first.size)), default=SIDES[0])
    images = np.stack([_square(_open(path), side) for path, _ in files])
    labels = np.array([label for _, label in files])
    test = np.arange(len(files)) % 5 == 4
    return images[~test], labels[~test], images[test], labels[test]


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"corrupt image {path}: {error}") from error


def _square(image: Image.Image, side: int) -> np.ndarray:
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge))
    return np.asarray(cut.resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)
