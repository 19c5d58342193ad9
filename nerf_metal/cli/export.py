"""``nerf-metal export``: write a run's mesh or point cloud."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import tyro

from nerf_metal.cli.opened import open_model
from nerf_metal.train.options import Backend, TrainConfig
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    import torch

    from nerf_metal.export.files import MeshFormat
    from nerf_metal.export.mesh import Space
    from nerf_metal.export.point_cloud import Cameras
    from nerf_metal.train.run_folder import RunFolder

Box = tuple[float, float, float, float, float, float]
MOST_RESOLUTION = 512  # of a cube: 0.5 GB of opacities, and several copies of them


@dataclass(frozen=True)
class ExportOptions:
    """Write a run's surface in the coordinates of the capture: mesh.ply with mesh.json, which says whether it is
    watertight, or points.ply. Needs no photographs."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""
    kind: Literal["mesh", "points"] = "mesh"
    """mesh: triangles with colours. points: what the training cameras see, or, where their data are gone, cameras all
    around."""
    format: tuple[Literal["ply", "obj", "glb", "usdz"], ...] = ("ply",)
    """Of the mesh, one or several: --format ply glb. usdz is for Quick Look (pip install 'nerf-metal[usdz]')."""
    resolution: int = 256
    """Voxels along the box's longest side. 256 of the package's scene: 18 s on two cores, 800 000 faces."""
    threshold: Literal["auto"] | float = "auto"
    """Density of the surface, 1 / unit of the run's scene. auto: half of the light is gone within 1/180 of the scene's
    box."""
    box: Literal["tight", "scene"] | Box = "tight"
    """tight: around what is dense. scene: the scene's box, without what is around it. Six numbers: least and greatest
    corner in the capture's coordinates."""
    simplify: int | None = None
    """Faces to leave, by quadric decimation. None: all."""
    min_component: float = 0.01
    """Connected pieces with a smaller share of the faces are dropped: specks in the air, bubbles within."""
    points: int = 200_000
    """Points of the cloud."""
    preview: bool = False
    """Also draw the mesh from two sides into mesh_preview.png."""
    out: str | None = None
    """Folder for the files. None: the run's."""
    overwrite: bool = False
    """Replace files that exist."""
    checkpoint: Literal["last", "best"] = "last"
    """Whose weights: the last whole checkpoint, or the one with the greatest PSNR."""
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to evaluate. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel."""


def run(args: Sequence[str]) -> int:
    """Export as ``args`` say; returns 0."""
    options = tyro.cli(ExportOptions, prog="nerf-metal export", args=list(args))
    _check(options)

    # From here on torch is needed: help and bad options came first.
    import torch

    from nerf_metal.export.files import point_cloud_bytes
    from nerf_metal.export.mesh import Space, filled_box, surface_density
    from nerf_metal.export.point_cloud import Cameras, field_points
    from nerf_metal.util.atomic import write_atomically

    folder, checkpoint, model, device = open_model(
        "export", options.run, options.device, options.backend, options.checkpoint
    )
    files = _files(options, folder)
    model.limit_memory(checkpoint.config.max_memory, 0, training=False)

    outer = model.box.double().cpu()
    central = outer if folder.scene_box is None else _common(outer, folder.scene_box)
    threshold = surface_density(central if folder.scene_box is None else folder.scene_box)
    if options.threshold != "auto":
        threshold = options.threshold
    to_scene, to_capture = torch.eye(4, dtype=torch.float64), torch.linalg.inv(folder.capture_to_scene)
    box = central
    if isinstance(options.box, tuple):  # the lattice stands in the capture's axes, and needs no way back
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
    """Make the mesh, write ``files``, and print what it is like."""
    import imageio.v3 as iio

    from nerf_metal.export.files import mesh_bytes
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
    up = folder.capture_to_scene[2, :3]  # the row that gives a scene's height
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
    """The cameras of the run, if its data can still be read."""
    from nerf_metal.export.point_cloud import Cameras
    from nerf_metal.train.scenes import open_scene

    try:
        split = open_scene(config, splits=("train",)).splits["train"]
    except InputError as error:
        print(f"note: points are seen by cameras all around, the run's cannot be read: {error}", file=sys.stderr)
        return None
    return Cameras(split.c2w, split.lenses, split.sizes)


def _common(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What two boxes ``[2, 3]`` share."""
    import torch

    return torch.stack((torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])))


def _check(options: ExportOptions) -> None:
    """Refuse what cannot be meant."""
    threshold, box = options.threshold, options.box
    corners = isinstance(box, str) or (all(map(math.isfinite, box)) and all(box[i] < box[i + 3] for i in range(3)))
    dense = threshold == "auto" or 0 < threshold < math.inf
    fine = 8 <= options.resolution <= MOST_RESOLUTION
    faces, share = options.simplify, options.min_component
    checks: tuple[tuple[bool, str, object, str, str], ...] = (
        (fine, "resolution", options.resolution, f"from 8 to {MOST_RESOLUTION}", "for more, export parts with --box"),
        (dense, "threshold", threshold, "auto or more than 0", "leave it out"),
        (corners, "box", box, "tight, scene or a least and a greater corner", "give x y z of both, of the capture"),
        (faces is None or faces >= 4, "simplify", faces, "at least 4", "it is how many faces are left"),
        (0 <= share < 1, "min-component", share, "in [0, 1)", "0 keeps all"),
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
    """What will be written. Nothing is replaced unasked: a mesh may have been made with other options, or edited since.

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
