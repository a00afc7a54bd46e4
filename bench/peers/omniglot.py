"""Omniglot as tensors, read from its authors' zip files, and episodes drawn from it.

The same data as kshot's `--data omniglot`: 105x105 drawings scaled to 28x28 by area averaging, ink 1 and
paper 0. Partition `official` trains on the background alphabets but the last 5 of the 30 by name, with
characters turned by 90, 180 and 270 degrees as classes of their own, and validates on those 5 unturned.
Partition `vinyals` follows splits/vinyals/{train,val}.txt, turned classes in both.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE = 28
N_VALIDATION_ALPHABETS = 5


def load(data_dir, partition):
    """(train, validation): uint8 tensors [classes, 20, 28, 28], ink 255."""
    folder = Path(data_dir) / "omniglot"
    if not folder.is_dir():
        folder = Path(data_dir)
    characters = read_zip(folder / "images_background.zip")
    if partition == "official":
        alphabets = sorted({name.split("/")[0] for name in characters})
        held_out = alphabets[-N_VALIDATION_ALPHABETS:]
        names = [name for name in sorted(characters) if name.split("/")[0] not in held_out]
        train = [turned(characters[name], turns) for name in names for turns in range(4)]
        validation = [characters[name] for name in sorted(characters) if name.split("/")[0] in held_out]
    else:
        # Vinyals' split mixes characters of both archives.
        characters |= read_zip(folder / "images_evaluation.zip")
        train, validation = (
            [character_of(line, characters) for line in read_split(folder / "splits/vinyals" / f"{part}.txt")]
            for part in ("train", "val")
        )
    return tuple(torch.from_numpy(np.stack(classes)) for classes in (train, validation))


def read_zip(path):
    """{"Alphabet/characterNN": uint8 [20, 28, 28]} of one archive."""
    if not path.is_file():
        raise SystemExit(f"{path}: not there; give --data-dir the folder that holds omniglot/ with its zip files")
    drawings = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".png"):
                alphabet, character = name.split("/")[-3:-1]
                drawings.setdefault(f"{alphabet}/{character}", []).append(ink(archive.read(name)))
    return {name: np.stack(images) for name, images in drawings.items()}


def ink(png):
    picture = Image.open(io.BytesIO(png)).convert("L")
    return 255 - np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def turned(drawings, quarter_turns):
    return np.ascontiguousarray(np.rot90(drawings, quarter_turns, axes=(1, 2)))


def read_split(path):
    if not path.is_file():
        raise SystemExit(f"{path}: not there; use --partition official, which needs no such file")
    return path.read_text().split()


def character_of(line, characters):
    """Drawings of one line of a split file, `Alphabet/characterNN/rotRRR`."""
    name, _, rotation = line.rpartition("/rot")
    if name not in characters:
        raise SystemExit(f"{line}: a character of the split that the archives lack")
    return turned(characters[name], int(rotation) // 90)


def draw_episode(classes, n_way, n_shot, n_query, rng):
    """f32 images [n_way * (n_shot + n_query), 1, 28, 28], support first, each class by class."""
    chosen = rng.choice(len(classes), n_way, replace=False)
    examples = np.stack([rng.permutation(classes.shape[1])[: n_shot + n_query] for _ in range(n_way)])
    images = classes[torch.from_numpy(chosen)[:, None], torch.from_numpy(examples)]
    images = torch.cat([images[:, :n_shot].flatten(0, 1), images[:, n_shot:].flatten(0, 1)])
    return images.unsqueeze(1).float().div_(255)
