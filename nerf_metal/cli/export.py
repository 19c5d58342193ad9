"""``nerf-metal export``: write a mesh or a point cloud of a run."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from nerf_metal.cli.arguments import read_options
from nerf_metal.cli.opened import RunOptions, open_model
from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    import torch

    from nerf_metal.export.file_formats import MeshFormat
    from nerf_metal.export.mesh import Space
    from nerf_metal.export.point_cloud import Cameras
    from nerf_metal.train.run_folder import RunFolder

Box = tuple[float, float, float, float, float, float]
MOST_RESOLUTION = 512  # the opacities of a cube take 0.5 GB, and there are several copies of them


@dataclass(frozen=True)
class ExportOptions(RunOptions):
    """Write the surface of a run in the coordinates of the capture.

    Files in the run folder:
    - mesh.ply, mesh.json: a mesh, and whether it is watertight
    - points.ply: with --kind points, a point cloud

    The photographs are not needed.
    """

    kind: Literal["mesh", "points"] = "mesh"
    """mesh writes triangles with colours. points writes points that the training cameras see; if the capture cannot be
    read, cameras all around the scene take their place."""
    format: tuple[Literal["ply", "obj", "glb", "usdz"], ...] = ("ply",)
    """Formats of the mesh, one or several, as in --format ply glb. usdz is for Quick Look and needs
    pip install 'nerf-metal[usdz]'."""
    resolution: int = 256
    """Number of voxels along the longest side of the box. For the built-in scene, 256 gives 800 000 faces in 18 s on
    two cores."""
    threshold: Literal["auto"] | float = "auto"
    """Density of the surface, in 1 / unit of the scene. auto takes the density that absorbs half of the light within
    1/180 of the scene's box."""
    box: Literal["tight", "scene"] | Box = "tight"
    """Box to export. tight fits it around everything dense. scene takes the scene's box without its surroundings. Six
    numbers are the least and the greatest corner in the coordinates of the capture."""
    simplify: int | None = None
    """Reduce the mesh to this number of faces, by quadric decimation. None keeps all faces."""
    min_component: float = 0.01
    """Drop connected pieces that have less than this share of all faces, such as specks in the air and bubbles inside
    solids."""
    points: int = 200_000
    """Number of points in the point cloud."""
    preview: bool = False
    """Also write mesh_preview.png, which shows the mesh from two sides."""
    out: str | None = None
    """Folder to write to. None takes the run folder."""
    overwrite: bool = False
    """Replace existing files."""


def run(args: Sequence[str]) -> int:
    """Run the command and return 0."""
    options = read_options(ExportOptions, "export", args)
    _check(options)

    # Torch is imported from here on, so that help and wrong options are answered at once.
    import torch

    from nerf_metal.export.file_formats import point_cloud_bytes
    from nerf_metal.export.mesh import Space, filled_box, surface_density
    from nerf_metal.export.point_cloud import Cameras, field_points
    from nerf_metal.util.atomic import write_atomically

    folder, checkpoint, model, device = open_model("export", options)
    files = _files(options, folder)
    model.limit_memory(checkpoint.config.max_memory, 0, training=False)

    outer = model.box.double().cpu()
    central = outer if folder.scene_box is None else _common(outer, folder.scene_box)
    threshold = surface_density(central if folder.scene_box is None else folder.scene_box)
    if options.threshold != "auto":
        threshold = options.threshold
    to_scene, to_capture = torch.eye(4, dtype=torch.float64), torch.linalg.inv(folder.capture_to_scene)
    box = central
    if isinstance(options.box, tuple):  # the lattice is in the capture's axes, so that its points need no mapping back
        to_scene, to_capture = folder.capture_to_scene, to_scene
        box = torch.tensor(options.box, dtype=torch.float64).view(2, 3)
    space = Space(model, to_scene, device)
    if options.box == "tight":
        box = filled_box(space, box, threshold)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    if options.kind == "mesh":
        _export_mesh(options, folder, space, box, threshold, to_capture, files)
    else:
        near, far = checkpoint.near, checkpoint.far
        cameras = _training_cameras(checkpoint.config) or Cameras.around(central, near, far)
        cloud = field_points(space, box, cameras, count=options.points, threshold=threshold).transformed(to_capture)
        write_atomically(files[0], lambda to: to.write_bytes(point_cloud_bytes(cloud)))
        print(f"{len(cloud.points)} points in {files[0]}")
    return 0


def _export_mesh(
    options: ExportOptions,
    folder: RunFolder,
    space: Space,
    box: torch.Tensor,
    threshold: float,
    to_capture: torch.Tensor,
    files: list[Path],
) -> None:
    """Make the mesh, write ``files``, and print facts about the mesh."""
    import imageio.v3 as iio

    from nerf_metal.export.file_formats import mesh_bytes
    from nerf_metal.export.mesh import field_mesh
    from nerf_metal.export.mesh_check import check_mesh
    from nerf_metal.export.mesh_preview import picture
    from nerf_metal.report import format_table
    from nerf_metal.util.atomic import write_atomically

    mesh = field_mesh(
        space,
        box,
        resolution=options.resolution,
        threshold=threshold,
        min_component=options.min_component,
        max_faces=options.simplify,
    ).transformed(to_capture)
    checked = check_mesh(mesh.vertices, mesh.faces)
    up = folder.capture_to_scene[2, :3]  # the row that maps to the height in the scene
    upward = (up / up.norm()).tolist()
    about = {
        **dataclasses.asdict(checked),
        "threshold": threshold,
        "resolution": options.resolution,
        "files": [path.name for path in files],
    }
    for path in files:
        if path.suffix == ".json":
            data = (json.dumps(about, indent=1, allow_nan=False) + "\n").encode()
        elif path.suffix == ".png":
            data = iio.imwrite("<bytes>", picture(mesh, up=upward), extension=".png")
        else:
            data = mesh_bytes(mesh, cast("MeshFormat", path.suffix[1:]), upward)
        write_atomically(path, functools.partial(Path.write_bytes, data=data))
    size = " x ".join(f"{high - low:.4g}" for low, high in zip(*checked.box, strict=True))
    rows = [
        ("mesh", f"{checked.faces} faces, {checked.vertices} vertices"),
        ("surface", checked.sentence),
        ("size", f"{size} units of the capture, volume {checked.volume:.4g}"),
        ("threshold", f"{threshold:.4g} / unit of the scene"),
        ("files", ", ".join(map(str, files))),
    ]
    print(format_table(rows))


def _training_cameras(config: TrainConfig) -> Cameras | None:
    """Return the training cameras of the run; None, with a note, if its data cannot be read."""
    from nerf_metal.export.point_cloud import Cameras
    from nerf_metal.train.scenes import open_scene

    try:
        split = open_scene(config, splits=("train",)).splits["train"]
    except InputError as error:
        print(f"note: the points are those that cameras all around see: {error}", file=sys.stderr)
        return None
    return Cameras(split.c2w, split.lenses, split.sizes)


def _common(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the intersection of two boxes ``[2, 3]``."""
    import torch

    return torch.stack((torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])))


def _check(options: ExportOptions) -> None:
    """Check the values of the options.

    Raises:
        InputError: one of them is out of range.
    """
    threshold, box = options.threshold, options.box
    corners = isinstance(box, str) or (all(map(math.isfinite, box)) and all(box[i] < box[i + 3] for i in range(3)))
    dense = threshold == "auto" or 0 < threshold < math.inf
    fine = 8 <= options.resolution <= MOST_RESOLUTION
    faces, share = options.simplify, options.min_component
    checks: tuple[tuple[bool, str, object, str, str], ...] = (
        (fine, "resolution", options.resolution, f"from 8 to {MOST_RESOLUTION}", "for more, export parts with --box"),
        (dense, "threshold", threshold, "auto or more than 0", "leave it out"),
        (
            corners,
            "box",
            box,
            "tight, scene or a least and a greater corner",
            "give x y z of both in the capture's coordinates",
        ),
        (faces is None or faces >= 4, "simplify", faces, "at least 4", "it is the number of faces that remain"),
        (0 <= share < 1, "min-component", share, "in [0, 1)", "0 keeps all pieces"),
        (options.points >= 1, "points", options.points, "at least 1", "200000 is usual"),
        (
            options.kind == "mesh" or options.format == ("ply",),
            "format",
            " ".join(options.format),
            "ply with --kind points",
            "leave it out",
        ),
        (bool(options.format), "format", "none", "one or more of ply, obj, glb and usdz", "leave it out for ply"),
    )
    for good, name, got, expected, cure in checks:
        if not good:
            raise InputError(f"[export] --{name} must be {expected}, got {got}; {cure}")


def _files(options: ExportOptions, folder: RunFolder) -> list[Path]:
    """Return the files to write. Existing files are replaced only with ``--overwrite``, since they may have been made
    with other options, or edited.

    Raises:
        InputError: one of them exists.
    """
    names = ["points.ply"]
    if options.kind == "mesh":
        names = [*(f"mesh.{kind}" for kind in dict.fromkeys(options.format)), "mesh.json"]
        names += ["mesh_preview.png"] * options.preview
    out = Path(options.out) if options.out else folder.path
    if out.exists() and not out.is_dir():
        raise InputError(f"[export] --out must be a folder, got the file {out}; give another name")
    for name in names:
        if (out / name).exists() and not options.overwrite:
            raise InputError(
                f"[export] {name} must not exist in {out}, got one; add --overwrite to replace it or give another --out"
            )
    return [out / name for name in names]
