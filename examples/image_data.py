"""The images that train_images.py learns from: scikit-learn's handwritten digits and Fashion-MNIST."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from image_files import UserError, write_atomically
from torch import Tensor

MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
CACHE = Path.home() / ".cache" / "torch_lif" / "fashion-mnist"

# SHA-256 of the unpacked files. Not of the .gz: Debian packed them anew without the file name and date in the gzip
# header, so that their checksums differ from the MD5s that Zalando publishes, although the content is the same. (With
# Zalando's header put back, Debian's four files have exactly those MD5s, so these sums hold for both.)
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLOTHES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class Images(NamedTuple):
    """Images as rows of pixel intensities in [0, 1], (images, pixels) float32, and their classes, (images,) int64."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: Sequence[str]
    shape: tuple[int, int]


def load(name: str, data_dir: Path | None = None) -> Images:
    return digits() if name == "digits" else fashion_mnist(data_dir)


def digits() -> Images:
    """Handwritten digits of 8 x 8 pixels from scikit-learn's wheel: 1347 to train and, always the same, 450 to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    pixels, labels = (x / 16).astype(np.float32), y.astype(np.int64)
    parts = train_test_split(pixels, labels, test_size=0.25, stratify=labels, random_state=0)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return Images(train_x, train_y, test_x, test_y, [str(digit) for digit in range(10)], (8, 8))


def fashion_mnist(data_dir: Path | None = None) -> Images:
    """70000 pictures of clothes of 28 x 28 pixels, 10000 of them for the test: Xiao, Rasul & Vollgraf 2017,
    arXiv:1708.07747.

    Read from `data_dir` if given, else from Debian's package if installed, else from the cache, into which they are
    downloaded if need be.
    """
    folder = data_dir or (DEBIAN if all((DEBIAN / name).exists() for name in CHECKSUMS) else CACHE)
    if folder == CACHE:
        for name in CHECKSUMS:
            if not (folder / name).exists():
                download(name, folder)
    train_x, train_y, test_x, test_y = (torch.from_numpy(parse_idx(read(folder / name))) for name in CHECKSUMS)
    train_x, test_x = (x.flatten(1).float() / 255 for x in (train_x, test_x))
    return Images(train_x, train_y.long(), test_x, test_y.long(), CLOTHES, (28, 28))


def read(path: Path) -> bytes:
    """The unpacked content of one of the files, with its checksum verified."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; --data-dir needs {', '.join(CHECKSUMS)}") from error
    try:
        return unpack(packed, path.name)
    except UserError as error:
        raise UserError(
            f"{path} {error}" + ("; delete it to have it downloaded again" if path.parent == CACHE else "")
        ) from error


def unpack(packed: bytes, name: str) -> bytes:
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"is damaged, or no gzip file ({error})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != CHECKSUMS[name]:
        raise UserError(f"has a wrong checksum: the SHA-256 of its content is {found}, expected {CHECKSUMS[name]}")
    return content


def parse_idx(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An IDX file of bytes: 0, 0, 8 (type: byte), number of dimensions; each dimension as a big-endian int32; the
    data."""
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape).copy()


def download(name: str, folder: Path) -> None:
    """Fetches a file into the folder, under its name only once it is complete and right."""
    failures = []
    folder.mkdir(parents=True, exist_ok=True)
    for mirror in MIRRORS:
        print(f"downloading {mirror}{name} to {folder}", flush=True)
        try:
            with urllib.request.urlopen(mirror + name, timeout=30) as reply:
                packed = reply.read()
            unpack(packed, name)
        except (OSError, http.client.HTTPException, UserError) as error:
            failures.append(f"{mirror}{name} {error}")
            continue
        write_atomically(folder / name, packed)
        return
    raise UserError(
        f"{name} could not be downloaded. Give a folder that has it with --data-dir, or install Debian's package "
        "dataset-fashion-mnist.\n  " + "\n  ".join(failures)
    )
