"""Benchmark of loading many photographs: time and memory.

``python -m benchmarks.photo_memory`` writes 300 JPEGs of 12 megapixels (4032x3024) to a scratch folder and opens them
in a separate process for each setting. The photographs are hard links to three different ones. Their texture is so fine
that they are as large and as slow to decode as those of a phone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from nerf_metal.cli import SPIN_COUNT

WIDTH, HEIGHT = 4032, 3024
DISTINCT = 3
BATCHES, BATCH = 200, 8192
SETTINGS = (("downscale 4", 4, 2.0), ("full size", 1, 2.0))  # name, --downscale, most GB in memory
_STATUS = Path("/proc/self/status")  # Linux


def photograph(seed: int) -> Image.Image:
    """Make a 12-megapixel image of noise: ten octaves, each 0.8 times as strong as the one before."""
    rng = np.random.default_rng(seed)
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for octave in range(10):
        size = (WIDTH >> (9 - octave), HEIGHT >> (9 - octave))
        noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        image = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        total += (np.asarray(image, np.float32) - 127.5) * 0.35 * 0.8**octave
    return Image.fromarray((total + 127.5).clip(0, 255).astype(np.uint8))


def write(folder: Path, count: int) -> None:
    """Write ``count`` photographs into ``folder``."""
    for i in range(min(count, DISTINCT)):
        photograph(i).save(folder / f"{i:04d}.jpg", quality=92)
    for i in range(DISTINCT, count):
        os.link(folder / f"{i % DISTINCT:04d}.jpg", folder / f"{i:04d}.jpg")


def resident() -> dict[str, float]:
    """Return the resident memory of this process in MB by kind, or its peak if the system does not tell."""
    if not _STATUS.exists():
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return {"all": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    fields = dict(line.split(":") for line in _STATUS.read_text().splitlines())
    kb = {name: int(fields[key].split()[0]) for name, key in (("anonymous", "RssAnon"), ("files", "RssFile"))}
    return {name: value * 1024 / 1e6 for name, value in ({"all": sum(kb.values())} | kb).items()}


def measure(folder: Path, downscale: int, max_gb: float) -> dict[str, float]:
    """Measure opening the photographs of a folder, decoding them and drawing batches.

    Returns:
        Memory in MB by kind, seconds for headers and decoding, milliseconds for the median and the slowest batch.
    """
    import torch

    from nerf_metal.data.photos import PhotoSource, open_photos

    before = resident()
    peaks, done = dict(before), threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peaks.update({name: max(peaks[name], value) for name, value in resident().items()})

    watcher = threading.Thread(target=watch)
    watcher.start()
    sources = [PhotoSource(path, (WIDTH, HEIGHT)) for path in sorted(folder.iterdir())]
    times = [time.perf_counter()]
    photos = open_photos(sources, downscale=downscale, max_bytes=int(max_gb * 1e9))
    times.append(time.perf_counter())
    photos.pixels(*torch.zeros(3, 1, dtype=torch.int64))
    times.append(time.perf_counter())
    generator = torch.Generator().manual_seed(0)
    height, width = photos.sizes[0].tolist()
    for _ in range(BATCHES):
        draw = [torch.randint(most, (BATCH,), generator=generator) for most in (len(photos), height, width)]
        photos.pixels(*draw)
        times.append(time.perf_counter())
    done.set()
    watcher.join()
    steps = np.diff(times[2:])
    return {
        **{name: peaks[name] - before[name] for name in before},
        "headers": times[1] - times[0],
        "fill": times[2] - times[1],
        "batch": 1e3 * float(np.median(steps)),
        "slowest": 1e3 * float(np.max(steps)),
        "disk": photos.on_disk,
        "pixels": int(photos.sizes.prod(1).sum()),
    }


def main() -> None:
    """Measure every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument(
        "--measure", nargs=3, metavar=("FOLDER", "DOWNSCALE", "GB"), help="one setting, in this process"
    )
    options = parser.parse_args()
    if options.measure:
        folder, downscale, gb = options.measure
        print(json.dumps(measure(Path(folder), int(downscale), float(gb))))
        return
    raw = options.photos * WIDTH * HEIGHT * 3 / 1e9
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < raw * 1.1:  # and the JPEGs
        sys.exit(f"{raw * 1.1:.1f} GB of scratch disk are needed, {free:.1f} are free: lower --photos or set TMPDIR")
    with tempfile.TemporaryDirectory(prefix="photo-memory-") as folder:
        write(Path(folder), options.photos)
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / options.photos / 1e6
        print(f"{options.photos} JPEGs of {WIDTH}x{HEIGHT}, {size:.1f} MB each; all of them as bytes: {raw:.1f} GB")
        print("memory: peak above that of the imports, MB; batches of 8192 random pixels, median and slowest")
        heads = ("all", "anonymous", "files", "headers", "decoding", "batch", "slowest")
        print(f"{'':24}" + "".join(f"{head:>11}" for head in heads))
        for name, downscale, gb in SETTINGS:
            command = [sys.executable, "-m", "benchmarks.photo_memory", "--measure", folder, str(downscale), str(gb)]
            environment = {"GOMP_SPINCOUNT": SPIN_COUNT, **os.environ}  # as nerf-metal sets it
            ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found = json.loads(ran.stdout)
            cells = [f"{found[kind]:.0f}" if kind in found else "-" for kind in heads[:3]]
            cells += [f"{found['headers']:.2f} s", f"{found['fill']:.1f} s"]
            cells += [f"{found[kind]:.1f} ms" for kind in ("batch", "slowest")]
            label = f"{name}, {'on disk' if found['disk'] else 'in memory'}"
            print(f"{label:24}" + "".join(f"{cell:>11}" for cell in cells))
            print(f"{'':4}{found['pixels'] * 3 / 1e6:.0f} MB of pixels", flush=True)


if __name__ == "__main__":
    main()
