"""Meshes and point clouds of fields whose surface is known, and of a run."""

import json
import math

import numpy as np
import pytest
import torch

import nerf_metal.train.loading
from nerf_metal.cli import main
from nerf_metal.export.mesh import Mesh, Space, field_mesh, filled_box, surface_density
from nerf_metal.export.mesh_check import check_mesh
from nerf_metal.export.mesh_preview import picture
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.nn.occupancy_grid import OccupancyGrid
from nerf_metal.reference import pack_bits
from nerf_metal.train.checkpoint import Checkpoint
from nerf_metal.train.loop import train
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.errors import InputError
from tests.conftest import CUBE
from tests.stepping import fresh_model

trimesh = pytest.importorskip("trimesh", reason="export needs trimesh: pip install 'nerf-metal[mesh]'")
BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
DENSE = 1e4  # within a ball: the least part of a voxel is opaque
ORANGE = (255, 102, 0)  # 8708 of 65535 of linear light is sRGB 102
AT_END = 100.0  # where a ball ends; the threshold of its surface
EYE = torch.eye(4, dtype=torch.float64)
CPU = torch.device("cpu")


class Balls:
    """Balls ``(x, y, z, radius)`` in a box, orange where x is less than 0 and blue elsewhere, black from within."""

    def __init__(self, *balls: tuple[float, float, float, float]) -> None:
        self.balls, self.box = torch.tensor(balls), BOX

    def to(self, device):
        assert device == CPU

    def limit_memory(self, max_memory, held_bytes, *, training):
        assert held_bytes == 0 and not training

    def _distance(self, positions):
        return (torch.linalg.vector_norm(positions[:, None] - self.balls[:, :3], dim=-1) - self.balls[:, 3]).amin(-1)

    def density(self, positions):
        # a tenth in a hundredth of the box's half: softer than a field's surface, harder than a voxel
        fall = -200.0 * self._distance(positions) - math.log(DENSE / AT_END - 1.0)
        return DENSE * torch.sigmoid(fall) * (positions.abs() <= 1).all(-1)

    def colors(self, positions, directions):
        color = torch.where(positions[:, :1] < 0, torch.tensor([1.0, 0.4, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
        outward = positions - self.balls[0, :3]
        return color * ((outward * directions).sum(-1, keepdim=True) < 0)

    def render(self, rays_o, rays_d, background):
        t = torch.zeros(len(rays_o))
        for _ in range(40):
            t += self._distance(rays_o + t[:, None] * rays_d)
        hit = (self._distance(rays_o + t[:, None] * rays_d) < 1e-3).float()
        t += 2e-3  # a picture's depth lies within
        points = rays_o + t[:, None] * rays_d
        return RenderedPixels(self.colors(points, rays_d) * hit[:, None], hit, t.nan_to_num() * hit)


def mesh_of(model, box=BOX, to_scene=EYE, **options) -> Mesh:
    """A mesh at a small resolution."""
    options = {"resolution": 48, "threshold": AT_END, **options}
    return field_mesh(Space(model, to_scene, CPU), box.double(), **options)


def test_a_ball_is_a_closed_mesh_of_its_size_and_colours():
    mesh = mesh_of(Balls((0.1, 0.0, 0.0, 0.6)))
    checked = check_mesh(mesh.vertices, mesh.faces)
    assert checked.watertight and checked.components == 1 and checked.genus == 0 and checked.euler == 2
    assert checked.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.02)  # a voxel is 7 % of the radius
    assert checked.area == pytest.approx(4 * math.pi * 0.6**2, rel=0.02)
    outward = mesh.vertices - (0.1, 0.0, 0.0)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    assert (mesh.normals * outward).sum(-1).min() > 0.97  # 14 degrees, where a voxel is 4
    left, right = mesh.vertices[:, 0] < -0.2, mesh.vertices[:, 0] > 0.2
    assert (mesh.colors[left] == ORANGE).all() and (mesh.colors[right] == (0, 0, 255)).all()


def test_a_box_that_cuts_closes_the_mesh():
    cut = torch.tensor([[-0.25, -1.0, -1.0], [1.0, 1.0, 1.0]])
    mesh = mesh_of(Balls((0.0, 0.0, 0.0, 0.6)), cut)
    checked = check_mesh(mesh.vertices, mesh.faces)
    assert checked.watertight and checked.box[0][0] == -0.25
    cap = math.pi * 0.35**2 * (3 * 0.6 - 0.35) / 3  # what is missing, of height 0.35
    assert checked.volume == pytest.approx(4 / 3 * math.pi * 0.6**3 - cap, rel=0.02)
    inside = mesh_of(Balls((0.0, 0.0, 0.0, 0.9)), torch.tensor([[-0.2] * 3, [0.2, 0.3, 0.4]]), resolution=9)
    checked = check_mesh(inside.vertices, inside.faces)
    assert checked.watertight and checked.box == (pytest.approx([-0.2] * 3), pytest.approx([0.2, 0.3, 0.4]))


def test_specks_go_and_large_pieces_stay():
    model = Balls((-0.5, 0.0, 0.0, 0.35), (0.5, 0.0, 0.0, 0.35), (0.0, 0.8, 0.8, 0.08))
    everything, clean = mesh_of(model), mesh_of(model, min_component=0.1)
    assert check_mesh(everything.vertices, everything.faces).components == 3
    checked = check_mesh(clean.vertices, clean.faces)
    assert checked.components == 2 and checked.watertight and checked.box[1][1] < 0.4
    assert len(clean.vertices) == len(np.unique(clean.faces))  # none is left over


def test_the_filled_box_is_around_the_ball():
    space = Space(Balls((0.3, -0.2, 0.0, 0.3)), EYE, CPU)
    box = filled_box(space, BOX.double(), surface_density(BOX))
    ball = torch.tensor([[0.0, -0.5, -0.3], [0.6, 0.1, 0.3]])
    assert (box[0] <= ball[0]).all() and (box[1] >= ball[1]).all() and float((box - ball).abs().max()) < 0.1


def test_fewer_faces_have_the_same_shape():
    pytest.importorskip("fast_simplification", reason="--simplify needs pip install 'nerf-metal[mesh]'")
    mesh = mesh_of(Balls((0.0, 0.0, 0.0, 0.6)), max_faces=1000)
    checked = check_mesh(mesh.vertices, mesh.faces)
    assert 900 < checked.faces <= 1000 and checked.watertight
    assert checked.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.03)


def test_nothing_dense_is_refused():
    with pytest.raises(InputError, match=r"--threshold must .*, got 100;"):
        mesh_of(Balls((5.0, 0.0, 0.0, 0.1)))


def test_holes_and_touching_faces_are_counted():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1.0], [0, -1, 0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    whole = check_mesh(vertices[:4], faces)
    assert whole.watertight and whole.volume == pytest.approx(1 / 6) and whole.genus == 0
    hole = check_mesh(vertices[:4], faces[:3])
    assert (hole.open_edges, hole.non_manifold_edges, hole.genus) == (3, 0, None)
    assert hole.unsound_share == 0.5 and "3 open and 0 non-manifold edges, 50.0000% of 6" in hole.sentence
    turned = check_mesh(vertices[:4], np.array([[0, 1, 2], *faces[1:].tolist()]))
    assert not turned.watertight and turned.open_edges == 0 and turned.unsound_share == 0.5
    second = np.array([[0, 1, 4], [0, 5, 1], [1, 5, 4], [0, 4, 5]])  # another one along the edge 0-1
    assert check_mesh(vertices, np.concatenate((faces, second))).non_manifold_edges == 1


def test_a_preview_shows_both_sides():
    mesh = mesh_of(Balls((0.0, 0.0, 0.0, 0.6)))
    drawn = picture(mesh, size=64)
    assert drawn.shape == (128, 128, 3) and (drawn[0, 0] == 255).all()
    # the sphere fills the view: pi / 4 of it, without holes
    assert (drawn[:64, :64] != 255).any(-1).mean() == pytest.approx(math.pi / 4, rel=0.05)
    colors = [drawn[32, x].tolist() for x in (48, 64 + 48)]
    assert sorted(colors) == [[0, 0, 255], list(ORANGE)]  # opposite sides


@pytest.mark.parametrize("cascades", [1, 3])
def test_occupied_places_are_those_where_rays_take_samples(cascades):
    torch.manual_seed(0)
    grid = OccupancyGrid(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 2.0, 1.0]]), 8, cascades)
    grid.bits.copy_(pack_bits(torch.rand(cascades * 512) < 0.5))
    box = grid.outer_box
    points = box[0] + (box[1] - box[0]) * (1.2 * torch.rand(2000, 3) - 0.1)
    from nerf_metal.reference import traverse_grid

    step = 1e-4  # one sample around each point
    info = traverse_grid(
        points, torch.tensor([[1.0, 0.0, 0.0]]).expand(2000, 3), grid.aabb, grid.bits, resolution=8, cascades=cascades,
        step_size=step, near=0.0, far=step,
    ).packed_info  # fmt: skip
    assert (grid.occupied(points) == (info[:, 1] > 0)).float().mean() > 0.998  # but within a step of a border
    assert not grid.occupied(box[1:] + 0.1).any() and 0.2 < grid.occupied(points).float().mean() < 0.6


@pytest.fixture
def ball_run(tmp_path, monkeypatch):
    """A run of a ball, whose scene is its capture turned by 90 degrees about z, enlarged by 2 and shifted."""
    matrix = [[0, -2, 0, 0.5], [2, 0, 0, 0.25], [0, 0, 2, -0.5], [0, 0, 0, 1.0]]
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    config = TrainConfig(data=str(tmp_path / "gone"))
    folder.write_config(config, "ball", capture_to_scene=matrix, aabb=BOX.tolist())
    checkpoint = Checkpoint(folder.path, config, 1, 1.0, 0.1, 10.0, {}, 0, None, True, {}, {})
    ball = Balls((0.1, 0.25, 0.0, 0.5))
    monkeypatch.setattr(nerf_metal.train.loading, "load_model", lambda *_: (ball, checkpoint))
    return folder.path


def test_everything_comes_back_in_the_captures_coordinates(ball_run, capsys):
    """Scene = 2 (-y, x, z) + (0.5, 0.25, -0.5): the ball's middle is (0, 0.2, 0.25), its radius 0.25."""
    middle = np.array([0.0, 0.2, 0.25])
    words = ["export", str(ball_run), "--resolution", "48", "--threshold", "100", "--device", "cpu"]
    assert main([*words, "--format", "ply", "obj", "glb"]) == 0
    assert "watertight, 1 piece(s)" in capsys.readouterr().out
    about = json.loads((ball_run / "mesh.json").read_text())
    assert about["watertight"] and about["volume"] == pytest.approx(4 / 3 * math.pi * 0.25**3, rel=0.02)
    for kind in ("ply", "obj", "glb"):
        mesh = next(iter(trimesh.load(ball_run / f"mesh.{kind}", force="scene", process=False).geometry.values()))
        reach = np.linalg.norm(mesh.vertices - middle, axis=-1)
        assert np.abs(reach - 0.25).max() < 0.01, kind  # a voxel is 0.02
        assert mesh.is_watertight and mesh.volume > 0, kind
        assert ((mesh.vertices - middle) * mesh.vertex_normals).sum(-1).min() > 0.24, kind
        # a scene's x is a capture's -y: orange in front
        visual = mesh.visual
        colors = visual.vertex_attributes["color"] if kind == "glb" else visual.vertex_colors
        oranges = colors[mesh.vertices[:, 1] > 0.3, :3]
        assert len(oranges) and (oranges == ((65535, 8708, 0) if kind == "glb" else ORANGE)).all(), kind
    cut = ["--box", "-1", "0.2", "-1", "1", "1", "1", "--out", str(ball_run.parent / "cut")]
    assert main([*words, *cut]) == 0
    mesh = trimesh.load(ball_run.parent / "cut" / "mesh.ply")
    assert mesh.is_watertight and mesh.bounds[0] == pytest.approx([-0.25, 0.2, 0.0], abs=0.02)  # a voxel is 0.04
    assert mesh.bounds[0][1] == pytest.approx(0.2, abs=1e-6) and mesh.bounds[1][1] == pytest.approx(0.45, abs=0.02)
    assert main([*words, "--kind", "points", "--points", "3000"]) == 0
    assert "note: " in capsys.readouterr().err
    cloud = trimesh.load(ball_run / "points.ply")
    assert cloud.vertices.shape == (3000, 3)
    assert np.abs(np.linalg.norm(cloud.vertices - middle, axis=-1) - 0.25).max() < 0.002
    assert (cloud.colors[cloud.vertices[:, 1] > 0.3][:, :3] == ORANGE).all()


def test_points_have_normals_and_are_the_same_twice(ball_run):
    words = ["export", str(ball_run), "--kind", "points", "--points", "500", "--device", "cpu"]
    assert main(words) == 0
    first = (ball_run / "points.ply").read_bytes()
    header, rows = first.split(b"end_header\n")
    assert b"element vertex 500\n" in header
    kinds = [*((name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")), ("rgb", "u1", 3)]
    table = np.frombuffer(rows, kinds)
    outward = np.stack([table[name] for name in "xyz"], -1) - (0.0, 0.2, 0.25)
    normals = np.stack([table[f"n{name}"] for name in "xyz"], -1)
    assert np.allclose(np.linalg.norm(normals, axis=-1), 1.0, atol=1e-5)
    assert ((outward * normals).sum(-1) / 0.25).min() > 0.97
    assert main([*words, "--overwrite"]) == 0 and (ball_run / "points.ply").read_bytes() == first


def test_usdz_holds_the_mesh_upright(ball_run):
    pxr = pytest.importorskip("pxr", reason="usdz needs usd-core: pip install 'nerf-metal[usdz]'")
    from pxr import Usd, UsdGeom, UsdShade, UsdValidation

    del pxr
    assert main(["export", str(ball_run), "--resolution", "24", "--format", "usdz", "--device", "cpu"]) == 0
    stage = Usd.Stage.Open(str(ball_run / "mesh.usdz"))
    surface = UsdGeom.Mesh(stage.GetPrimAtPath("/mesh/surface"))
    points = np.array(surface.GetPointsAttr().Get())
    assert np.abs(np.linalg.norm(points - (0.0, 0.2, 0.25), axis=-1) - 0.25).max() < 0.02
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and stage.GetDefaultPrim().GetPath() == "/mesh"
    upright = np.array(UsdGeom.Xformable(surface).ComputeLocalToWorldTransform(Usd.TimeCode.Default()))
    assert np.allclose((0, 0, 1, 0) @ upright, (0, 1, 0, 0))  # the capture's z is the scene's
    places = UsdGeom.PrimvarsAPI(surface).GetPrimvar("st")
    assert len(places.Get()) == len(surface.GetFaceVertexIndicesAttr().Get())
    material, _ = UsdShade.MaterialBindingAPI(surface).ComputeBoundMaterial()
    assert material.ComputeSurfaceSource()[0].GetInput("diffuseColor").HasConnectedSource()
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert not [error.GetErrorAsString() for error in errors]


def test_usdz_texels_are_the_faces_colours(ball_run, tmp_path):
    pytest.importorskip("pxr", reason="usdz needs usd-core: pip install 'nerf-metal[usdz]'")
    import zipfile

    import imageio.v3 as iio
    from pxr import Usd, UsdGeom

    assert main(["export", str(ball_run), "--resolution", "24", "--format", "usdz", "--device", "cpu"]) == 0
    with zipfile.ZipFile(ball_run / "mesh.usdz") as package:
        texture = iio.imread(package.read(next(name for name in package.namelist() if name.endswith("png"))))
    stage = Usd.Stage.Open(str(ball_run / "mesh.usdz"))
    surface = UsdGeom.Mesh(stage.GetPrimAtPath("/mesh/surface"))
    st = np.array(UsdGeom.PrimvarsAPI(surface).GetPrimvar("st").Get()).reshape(-1, 3, 2)
    assert (st == st[:, :1]).all() and len(np.unique(st[:, 0], axis=0)) == len(st)  # a texel each
    height, width = texture.shape[:2]
    column, row = (st[:, 0] * (width, -height) + (0, height)).astype(int).T
    faces = np.array(surface.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    middle = np.array(surface.GetPointsAttr().Get())[faces].mean(1)
    assert (texture[row, column][middle[:, 1] > 0.3] == ORANGE).all()


@pytest.mark.parametrize(
    ("words", "name", "got"),
    [
        (["--resolution", "4"], "--resolution", "4"),
        (["--threshold", "-1"], "--threshold", "-1.0"),
        (["--threshold", "20000"], "--threshold", "2e+04"),
        (["--box", "1", "0", "0", "0", "1", "1"], "--box", "(1.0, 0.0, 0.0, 0.0, 1.0, 1.0)"),
        (["--min-component", "1"], "--min-component", "1.0"),
        (["--kind", "points", "--format", "glb"], "--format", "glb"),
        (["--simplify", "3"], "--simplify", "3"),
        (["--kind", "points", "--points", "0"], "--points", "0"),
        (["--kind", "points", "--box", "5", "5", "5", "6", "6", "6"], "--box", "0"),
    ],
)
def test_bad_options_are_one_line(ball_run, capsys, monkeypatch, words, name, got):
    monkeypatch.setattr("nerf_metal.export.point_cloud.RAYS", 256)
    assert main(["export", str(ball_run), "--device", "cpu", "--resolution", "24", *words]) == 2
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"error: [export] {name} must ") and f", got {got}" in last
    assert not [path for path in ball_run.iterdir() if path.name != "config.json"]


def test_files_are_not_replaced_unasked(ball_run, capsys, monkeypatch):
    monkeypatch.setitem(picture.__kwdefaults__, "size", 64)  # quick
    (ball_run / "mesh.ply").write_text("mine")
    words = ["export", str(ball_run), "--resolution", "24", "--device", "cpu"]
    assert main(words) == 2 and (ball_run / "mesh.ply").read_text() == "mine"
    assert "add --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--preview"]) == 0 and (ball_run / "mesh.ply").stat().st_size > 1000
    assert (ball_run / "mesh_preview.png").exists()


def test_a_missing_package_is_named(ball_run, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    assert main(["export", str(ball_run), "--device", "cpu"]) == 2
    assert "pip install 'nerf-metal[mesh]'" in capsys.readouterr().err


def test_a_run_of_a_second_gives_the_cube(tmp_path, cube_scene, plain_plots, capsys):
    """The cube of 1 x 0.8 x 1.2 as pictures of 16 x 16 pixels show it: a pixel is 0.18, a cell of the field 0.1."""
    config = TrainConfig(
        out=str(tmp_path / "run"),
        steps=150,
        max_seconds=None,
        levels=4,
        log2_table_size=12,
        base_resolution=4,
        finest_resolution=32,
        hidden_width=16,
        grid_resolution=32,
        march_steps=64,
        batch_samples=2048,
        warmup_steps=5,
        eval_views=1,
        device="cpu",
        quiet=True,
    )
    run = RunFolder.create(config, "cube")
    train(config, cube_scene, run, CPU)
    assert torch.equal(run.capture_to_scene, EYE) and torch.equal(run.scene_box, cube_scene.aabb.double())
    words = ["export", config.out, "--resolution", "48", "--device", "cpu"]
    assert main([*words, "--threshold", "5", "--min-component", "0.05"]) == 0
    about = json.loads((run.path / "mesh.json").read_text())
    assert about["watertight"], capsys.readouterr().out
    below, above = np.array(about["box"])
    assert above == pytest.approx(CUBE[1].numpy(), abs=0.15) and below[:2] == pytest.approx(
        CUBE[0, :2].numpy(), abs=0.15
    )
    assert below[2] == pytest.approx(-0.6, abs=0.3)  # no camera sees the bottom
    mesh = trimesh.load(run.path / "mesh.ply")
    truth = (mesh.vertices - CUBE[0].numpy()) / (CUBE[1] - CUBE[0]).numpy() * 255  # a cube's colour is the place on it
    assert np.abs(mesh.visual.vertex_colors[:, :3] - truth).mean() < 40


def test_densities_are_what_rays_see(tmp_path, cube_scene):
    """In an empty cell there is nothing, whatever was learnt there."""
    config = TrainConfig(grid_resolution=8, levels=2, log2_table_size=8, finest_resolution=16, hidden_width=16)
    model = fresh_model(config, BOX, 0.1, 10.0)
    points = torch.rand(200, 3) * 2.2 - 1.1
    with torch.no_grad():
        learnt = model.field.density(points)
    inside = (points.abs() <= 1).all(-1)
    torch.testing.assert_close(model.density(points), learnt * inside)
    model.grid.bits.copy_(pack_bits(torch.arange(512) % 8 < 4))  # the half with x below 0
    torch.testing.assert_close(model.density(points), learnt * (inside & (points[:, 0] < 0)))
