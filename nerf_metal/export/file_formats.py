"""File formats of meshes and point clouds. Coordinates are written unchanged, whichever axis a viewer takes as up.

- PLY and OBJ hold the same colours as pictures.
- GLB holds linear colours of vertices, as the format demands, with 16 bits so that dark colours keep their steps. The
  colours include the light, so that the material is unlit (``KHR_materials_unlit``, or rough for other viewers).
- USDZ is for Quick Look, which always shows textures, but colours of vertices only with some materials. Every face has
  one texel of a PNG, and its corners point to the middle of that texel, so that colours do not bleed. Quick Look
  expects Y up: the points keep their coordinates, and the prim above them rotates them.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Literal

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from nerf_metal.export.mesh import Mesh
from nerf_metal.export.point_cloud import PointCloud
from nerf_metal.util.extras import require

MeshFormat = Literal["ply", "obj", "glb", "usdz"]


def mesh_bytes(mesh: Mesh, kind: MeshFormat, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> bytes:
    """Return the content of a file with a mesh.

    Args:
        mesh: the mesh, in the coordinates to write.
        kind: format of the file.
        up: unit vector that USDZ shows as up.

    Raises:
        InputError: a package that the format needs is not installed.
    """
    if kind == "usdz":
        return _usdz(mesh, up)
    trimesh = require("trimesh", extra="mesh", command="export")
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False)
    if kind == "glb":
        linear = np.full((len(mesh.vertices), 4), 65535, np.uint16)
        linear[:, :3] = np.round(_linear(mesh.colors) * 65535.0)
        made.vertex_attributes["_colors"] = linear
        whole: bytes = made.export(file_type="glb", include_normals=True, tree_postprocessor=_finish_gltf)
        return whole
    made.visual.vertex_colors = mesh.colors
    if kind == "obj":
        text: str = made.export(file_type="obj", include_normals=True, header=None)
        return text.encode()
    data: bytes = made.export(file_type="ply", vertex_normal=True)
    return data


def point_cloud_bytes(cloud: PointCloud) -> bytes:
    """Return a point cloud as binary PLY with normals and colours. trimesh writes point clouds without normals."""
    columns = {
        **{name: ("float", "<f4", cloud.points[:, i]) for i, name in enumerate("xyz")},
        **{f"n{name}": ("float", "<f4", cloud.normals[:, i]) for i, name in enumerate("xyz")},
        **{name: ("uchar", "u1", cloud.colors[:, i]) for i, name in enumerate(("red", "green", "blue"))},
    }
    rows = np.empty(len(cloud.points), [(name, kind) for name, (_, kind, _) in columns.items()])
    for name, (_, _, values) in columns.items():
        rows[name] = values
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property {word} {name}" for name, (word, _, _) in columns.items()]
    return "\n".join([*header, "end_header", ""]).encode() + rows.tobytes()


def _linear(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert sRGB bytes to linear light in [0, 1] (IEC 61966-2-1)."""
    c = colors / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _finish_gltf(tree: dict[str, Any]) -> None:
    """Name the colours as glTF demands, and give the mesh its material."""
    primitive = tree["meshes"][0]["primitives"][0]
    index = primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_colors")
    tree["accessors"][index]["normalized"] = True
    primitive["material"] = 0
    dull = {"baseColorFactor": [1.0, 1.0, 1.0, 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
    tree["materials"] = [{"pbrMetallicRoughness": dull, "extensions": {"KHR_materials_unlit": {}}}]
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), "KHR_materials_unlit"]


def _usdz(mesh: Mesh, up: tuple[float, float, float]) -> bytes:
    """Return a package with a USD stage and its texture."""
    require("pxr", extra="usdz", command="export")
    from pxr import Gf, Kind, Sdf, Usd, UsdGeom, UsdShade, UsdUtils, Vt

    width = math.ceil(math.sqrt(len(mesh.faces)))
    height = math.ceil(len(mesh.faces) / width)
    texels = np.zeros((height * width, 3), np.uint8)
    texels[: len(mesh.faces)] = mesh.colors[mesh.faces].astype(np.uint16).sum(1) // 3
    row, column = np.divmod(np.arange(len(mesh.faces)), width)
    st = np.stack(((column + 0.5) / width, 1.0 - (row + 0.5) / height), -1)  # from the lower left of the picture
    with tempfile.TemporaryDirectory() as folder:
        iio.imwrite(Path(folder) / "colors.png", texels.reshape(height, width, 3))
        stage = Usd.Stage.CreateNew(str(Path(folder) / "mesh.usdc"))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)  # the unit of a capture is unknown
        root = UsdGeom.Xform.Define(stage, "/mesh")
        Usd.ModelAPI(root).SetKind(Kind.Tokens.component)
        stage.SetDefaultPrim(root.GetPrim())
        upright = Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(*up), Gf.Vec3d(0, 1, 0)))
        root.AddTransformOp().Set(upright)
        surface = UsdGeom.Mesh.Define(stage, "/mesh/surface")
        surface.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(mesh.vertices.astype(np.float32)))
        surface.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.astype(np.int32).ravel()))
        surface.CreateFaceVertexCountsAttr(Vt.IntArray(len(mesh.faces), 3))
        surface.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh.normals.astype(np.float32)))
        surface.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
        surface.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        surface.CreateExtentAttr([Gf.Vec3f(*map(float, f(mesh.vertices, axis=0))) for f in (np.min, np.max)])
        primvars = UsdGeom.PrimvarsAPI(surface)
        places = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying)
        places.Set(Vt.Vec2fArray.FromNumpy(st.repeat(3, axis=0).astype(np.float32)))
        shown = primvars.CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex)
        shown.Set(Vt.Vec3fArray.FromNumpy(_linear(mesh.colors).astype(np.float32)))
        material = UsdShade.Material.Define(stage, "/mesh/material")
        reader = UsdShade.Shader.Define(stage, "/mesh/material/st")
        reader.CreateIdAttr("UsdPrimvarReader_float2")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
        texture = UsdShade.Shader.Define(stage, "/mesh/material/colors")
        texture.CreateIdAttr("UsdUVTexture")
        texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set("colors.png")
        texture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
        found = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
        texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(found)
        shader = UsdShade.Shader.Define(stage, "/mesh/material/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        rgb = texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
        shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(rgb)
        shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1.0)
        shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
        material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
        UsdShade.MaterialBindingAPI.Apply(surface.GetPrim()).Bind(material)
        stage.GetRootLayer().Save()
        package = Path(folder) / "mesh.usdz"
        if not UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(Path(folder) / "mesh.usdc")), str(package)):
            raise OSError(f"USD could not pack {package}")
        return package.read_bytes()
