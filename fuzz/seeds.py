#!/usr/bin/env python3
"""Makes the seeds below fuzz/seeds/: small right files of each kind, from which the fuzzer starts.

    fuzz/seeds.py --kshot target/release/kshot      # needs Pillow

PyTorch's files are seeds already, as crates/kshot/tests/golden/import has them.
"""

import argparse
import base64
import io
import json
import sqlite3
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

SEEDS = Path(__file__).resolve().parent / "seeds"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kshot", required=True, help="the binary")
    options = parser.parse_args()
    pictures()
    archives()
    features()
    models(Path(options.kshot).resolve())
    stores(Path(options.kshot).resolve())
    bodies()
    print(f"{sum(path.stat().st_size for path in SEEDS.rglob('*') if path.is_file())} bytes in {SEEDS}")


def put(target, name, content):
    (SEEDS / target).mkdir(parents=True, exist_ok=True)
    (SEEDS / target / name).write_bytes(content)


def picture(mode="L", side=12):
    image = Image.new("RGB", (side, side), "white")
    for at in range(side):
        image.putpixel((at, at), (0, 0, 20 * at % 256))
    return image.convert(mode)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        put("picture", f"{mode.replace(';', '')}.png", encoded(picture("I").convert("I;16") if mode == "I;16" else picture(mode), "PNG"))
    turned = Image.Exif()
    turned[0x0112] = 6
    put("picture", "grey.jpg", encoded(picture(), "JPEG"))
    put("picture", "turned.jpg", encoded(picture("RGB"), "JPEG", exif=turned, quality=60))
    put("picture", "progressive.jpg", encoded(picture("RGB"), "JPEG", progressive=True, quality=40))
    put("picture", "turned.png", encoded(picture(), "PNG", exif=turned))
    put("picture", "lossy.webp", encoded(picture("RGB"), "WEBP", quality=40))
    put("picture", "lossless.webp", encoded(picture("RGBA"), "WEBP", lossless=True, exif=turned))
    for mode in ("1", "L", "P", "RGB"):
        put("picture", f"{mode}.bmp", encoded(picture(mode), "BMP"))


def zipped(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, compression)
    return file.getvalue()


def archives():
    drawing = encoded(picture("1", 8), "PNG")
    characters = {f"images_background/A/character0{c}/000{c}_0{d}.png": drawing for c in (1, 2) for d in (1, 2)}
    put("omniglot", "stored.zip", zipped(characters))
    put("omniglot", "deflated.zip", zipped({**characters, "__MACOSX/x": b"", "note.txt": b"a" * 200}, zipfile.ZIP_DEFLATED))
    run = {"run01/training/class01.png": drawing, "run01/test/item01.png": drawing,
           "run01/class_labels.txt": b"run01/test/item01.png run01/training/class01.png\n"}
    put("omniglot", "lake.zip", zipped(run))
    # All the runs, as far as their names go: each file is empty.
    names = [f"r/run{r:02}/{folder}/{c:02}.png" for r in range(1, 21) for folder in ("training", "test") for c in range(1, 21)]
    put("omniglot", "empty-runs.zip", zipped({**dict.fromkeys(names[:40], b""), "r/run01/class_labels.txt": b""}))


def npy(kind, shape, data, version=1):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header + data


def safetensors(arrays, metadata=None):
    header, at = ({"__metadata__": metadata} if metadata else {}), 0
    for name, (kind, shape, data) in arrays.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in arrays.values())


def features():
    values, labels = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<2q", 7, 3)
    put("features", "f4.npy", npy("<f4", (2, 2), values))
    put("features", "f8.npy", npy("<f8", (2, 1), bytes(16), version=2))
    put("features", "f2.npy", npy("<f2", (2, 1), b"\x00\x3c\x00\x40", version=3))
    put("features", "i8.npy", npy("<i8", (2,), labels))
    put("features", "u1.npy", npy("|u1", (2,), b"\x00\x01"))
    put("features", "text.npy", npy("<U2", (2,), "ab".encode("utf-32-le") + "c\0".encode("utf-32-le")))
    put("features", "bytes.npy", npy("|S2", (2,), b"abc\0"))
    for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        entries = {"features.npy": npy("<f4", (2, 2), values), "labels.npy": npy("<i8", (2,), labels)}
        put("features", f"{name}.npz", zipped(entries, compression))
    for kind, data in (("F32", values), ("F16", values[:8]), ("BF16", values[:8]), ("F64", values * 2)):
        put("features", f"{kind}.safetensors", safetensors({"x": (kind, [2, 2], data), "y": ("I64", [2], labels)}))


def models(kshot):
    """Models of one filter, trained for one episode; their descriptions alone; and their checkpoints."""
    small = ["--data", "glyphs", "--alphabets", "12", "--way", "2", "--query", "1", "--image-size", "28", "--episodes", "1",
             "--val-episodes", "1", "--test-episodes", "1", "--val-interval", "1", "--filters", "1"]
    plans = [("prototypical", []), ("matching", []), ("relation", ["--encoder", "relation", "--relation-filters", "1"]), ("maml", []), ("siamese", ["--encoder", "conv4"])]
    with tempfile.TemporaryDirectory() as folder:
        for method, more in plans:
            run = Path(folder) / method
            done = subprocess.run([kshot, "train", method, *small, *more, "--out", run], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{method}: {done.stderr}")
            file = run.with_suffix(".safetensors")
            subprocess.run([kshot, "export", run, "--to", file], check=True, capture_output=True)
            content = file.read_bytes()
            length, = struct.unpack("<Q", content[:8])
            description = json.loads(content[8:8 + length])["__metadata__"]["kshot"]
            put("model_file", f"{method}.json", description.encode() + b"\0" + struct.pack("<f", 1))
            if method == "prototypical":
                put("model_file", f"{method}.safetensors", content)
                huge = json.loads(description)
                huge["image"] = {"height": 1024, "width": 1024, "channels": 3}
                huge["settings"] |= {"encoder": "mlp", "units": "8192", "depth": "2"}
                del huge["settings"]["filters"]
                put("model_file", "huge-layer.json", json.dumps(huge, separators=(",", ":")).encode() + b"\0" + struct.pack("<f", 1))
                checkpoint = next(run.rglob("state.json")).parent
                arrays = (checkpoint / "weights.safetensors").read_bytes()
                put("checkpoint", method, (checkpoint / "state.json").read_bytes() + b"\0" + arrays)


def stores(kshot):
    """A store of the model of one filter, in small pages; and changes of a right store, as the target reads them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "b"):
            at = Path(folder) / "pictures" / name
            at.mkdir(parents=True)
            (at / "x.png").write_bytes(encoded(picture(side=12 if name == "a" else 14), "PNG"))
        store = Path(folder) / "store"
        subprocess.run([kshot, "enroll", store, Path(folder) / "pictures", "--encoder", SEEDS / "model_file/prototypical.safetensors"],
                       check=True, capture_output=True)
        with sqlite3.connect(store, isolation_level=None) as connection:
            for line in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 512", "VACUUM"):
                connection.execute(line)
        put("store", "enrolled.kshot", store.read_bytes())
    change = lambda column, row, kind, value: bytes([column, row, kind, len(value)]) + value
    put("store", "renamed", change(0, 1, 0, b"c") + change(5, 1, 0, b"y.png"))
    put("store", "control", change(0, 1, 0, b"a\7b"))
    put("store", "short", change(8, 1, 1, struct.pack("<f", 1)))
    put("store", "constant", bytes([8, 1, 3, 64]))
    put("store", "moved", change(4, 2, 2, b"\1"))
    put("store", "orphan", change(4, 2, 2, b"\7") + change(10, 1, 2, b"\7"))
    put("store", "hash", change(6, 1, 1, bytes(16)) + change(6, 2, 1, bytes(3)))
    put("store", "model", change(11, 1, 0, b"0") + change(13, 1, 1, b"x"))
    put("store", "numbers", change(1, 1, 2, b"\xff" * 8) + change(7, 1, 2, b"\xff" * 8) + change(14, 1, 2, b"\xff" * 8))


def bodies():
    """Bodies of `POST /classify` after a line with their type."""
    drawing = encoded(picture("1", 8), "PNG")
    text = base64.b64encode(drawing).decode()
    body = lambda name, kind, content: put("classify_body", name, kind.encode() + b"\n" + content)
    body("raw", "image/png", drawing)
    body("bytes", "", encoded(picture(side=6), "BMP"))
    body("one.json", "application/json", json.dumps({"image": text}).encode())
    body("many.json", "application/json", json.dumps({"images": [text, "data:image/png;base64," + text]}).encode())
    part = lambda field, file: (f'--x\r\ncontent-disposition: form-data; name="{field}"; filename="{file}"\r\n'
                                "content-type: image/png\r\n\r\n").encode() + drawing + b"\r\n"
    body("one.form", "multipart/form-data; boundary=x", part("file", "a.png") + b"--x--\r\n")
    body("many.form", 'multipart/form-data; boundary="x"', part("images", "../a.png") + part("images", "") + b"--x--\r\n")
    body("text", "text/plain", b"a picture")


if __name__ == "__main__":
    main()
