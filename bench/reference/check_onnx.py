#!/usr/bin/env python3
"""Checks `kshot export FROM --to FILE.onnx` in onnxruntime against the embeddings that kshot itself computes.

    pip install onnx onnxruntime safetensors numpy
    bench/reference/check_onnx.py --kshot target/release/kshot glyphs-conv4

Every class of a store has one picture, so its prototype in `kshot export STORE --to FILE.safetensors` is that picture's
embedding: 20 random pictures go through both.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy
import onnx
import onnxruntime
import safetensors
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--kshot", default="kshot")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run = lambda *words: subprocess.run([arguments.kshot, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        run("export", arguments.model, "--to", folder / "encoder.onnx")
        onnx.checker.check_model(str(folder / "encoder.onnx"), full_check=True)
        session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"))
        _, height, width, channels = session.get_inputs()[0].shape
        if channels != 1:
            raise SystemExit("only models of grey line drawings are checked")
        random = numpy.random.default_rng(1)
        images = []
        for number in range(20):
            # Ink on paper, whose border is paper and whose strongest ink is black: what kshot makes of it is the picture itself.
            picture = random.integers(0, 256, (height, width), dtype=numpy.uint8) * (random.random((height, width)) < 0.3)
            picture[:3], picture[-3:], picture[:, :3], picture[:, -3:] = 0, 0, 0, 0
            picture[height // 2, width // 2] = 255
            place = folder / "pictures" / f"{number:02}"
            place.mkdir(parents=True)
            Image.fromarray((255 - picture).astype(numpy.uint8)).save(place / "picture.png")
            images.append(picture.astype(numpy.float32) / 255)
        run("enroll", folder / "store.kshot", folder / "pictures", "--encoder", arguments.model)
        run("export", folder / "store.kshot", "--to", folder / "store.safetensors")
        with safetensors.safe_open(folder / "store.safetensors", "numpy") as file:
            ours = file.get_tensor("prototypes")
        theirs = session.run(None, {"images": numpy.stack(images)[..., None]})[0]
    error = numpy.abs(ours - theirs).max() / numpy.abs(ours).max()
    print(f"{arguments.model}: 20 pictures, {ours.shape[1]} features, largest difference {error:.1e} of the largest feature")
    if error > 1e-5:
        raise SystemExit("that is too much")


main()
