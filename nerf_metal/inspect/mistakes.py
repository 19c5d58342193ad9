"""Likely mistakes of a capture, with advice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.lenses import fold_radius
from nerf_metal.data.scene import Scene
from nerf_metal.inspect.views import Focus, Views, fields_of_view, focus

FEW_VIEWS = 10
"""Fewer training images than this are few: half of the smallest usual captures, LLFF's with 20 photographs."""
MISSES = 0.25
"""The fraction of the cameras that may look past the box: they photograph its surroundings."""
LOOKING = 0.9
"""The fraction of the cameras that must look at their common point, or away from it, to count as all cameras."""
FOCUSED = 0.3
"""The greatest distance of the optical axes from their common point, relative to the cameras' distance from it.
Captures by hand around an object stay below 0.2."""
SAME_PLACE, SAME_DEGREES = 0.0025, 0.25
"""Two views are near-duplicates below this distance, relative to the extent of all cameras, and this angle, degrees.
The closest two views of Lego are farther apart."""
FAR_OUT = 5.0
"""A camera is far out at this distance from the median position, relative to the median distance. On a straight track
the greatest value is 2."""
NO_PARALLAX = 0.01
"""The least extent of the camera positions, relative to the box's diagonal. The cameras of LLFF's fern, which hardly
move, have 0.1."""
SMALL_BOX = 0.15
"""The least fraction of the image width that the box fills in the median view: 240 of 1600 pixels."""
UNITS = 1e4
"""The greatest usual factor between capture units and scene units. Cameras that are metres apart have factors from 0.01
to 100."""
FIELD_OF_VIEW = (10.0, 150.0)
"""The usual fields of view, degrees: a narrower lens is a telescope, and a wider one is no pinhole camera."""
OFF_CENTER = 0.2
"""The greatest usual distance of the principal point from the image centre, relative to the image size: no lens is
mounted farther off."""


class Mistake(NamedTuple):
    """A likely mistake of a capture.

    Attributes:
        name: the kind of mistake.
        sentence: what is wrong.
        evidence: the numbers that show it.
        advice: what to do.
        views: the names of the views that it concerns. Empty if it concerns all views.
    """

    name: str
    sentence: str
    evidence: str
    advice: str
    views: tuple[str, ...] = ()


def find_mistakes(scene: Scene) -> list[Mistake]:
    """Return the likely mistakes of a scene, the gravest first.

    If the poses themselves are wrong, the checks of their positions are left out: they would only report consequences.
    """
    views = Views(scene)
    poses = next(filter(None, (check(views) for check in _OF_POSES)), None)
    others = [check(views) for check in ((() if poses else _OF_PLACES) + _OF_IMAGES)]
    return [mistake for mistake in (poses, *others) if mistake]


def _world_to_camera(views: Views) -> Mistake | None:
    given, inverse = focus(views.capture_poses), focus(np.linalg.inv(views.capture_poses))
    if _all_look(given) or not _all_look(inverse):
        return None
    assert inverse is not None
    return Mistake(
        "world-to-camera",
        "The poses look like world-to-camera matrices: their inverses are cameras around one point.",
        f"{inverse.share:.0%} of the inverted poses look at a common point {inverse.distance:.3g} capture units away, "
        + (f"but {given.share:.0%} of the given poses do" if given else "but the given poses have no common point"),
        "invert the matrices, since transform_matrix is camera-to-world",
    )


def _all_look(found: Focus | None) -> bool:
    return found is not None and found.share >= LOOKING and found.blur < FOCUSED


def _axes(views: Views) -> Mistake | None:
    points = views.scene.points
    if points is not None and len(points):
        to = points.double().numpy()[:: max(1, len(points) // 1000)] - views.positions[:, None]
        front = float(((to * views.directions[:, None]).sum(-1) > 0).mean())
        evidence = f"on average, {front:.0%} of the sparse points lie in front of a camera"
    else:
        found = focus(views.c2w)
        if found is None or found.blur >= FOCUSED:
            return None
        front, evidence = found.share, f"the common point lies in front of {found.share:.0%} of the cameras"
    if front > 1 - LOOKING:
        return None
    return Mistake(
        "axes",
        "The cameras look away from their common point: the poses seem to have OpenCV axes (y down, z forwards).",
        evidence,
        "negate the second and third column of each matrix, since OpenGL axes are right, up and back. If the cameras "
        "look outwards from the middle of a room, nothing is wrong",
    )


def _no_parallax(views: Views) -> Mistake | None:
    share = views.extent / float(np.linalg.norm(np.ptp(views.box, axis=0)))
    if len(views.names) < 2 or share >= NO_PARALLAX:
        return None
    return Mistake(
        "no-parallax",
        "All cameras have one position: images from one position show no depth.",
        f"the positions spread over {share:.2%} of the box's diagonal",
        "move while you photograph, or check that the last columns of the poses are positions",
    )


def _box_missed(views: Views) -> Mistake | None:
    enter, leave = views.crossings()
    missed = (leave < enter) | (leave < 0)
    if missed.mean() <= MISSES:
        return None
    return Mistake(
        "box-missed",
        "Many cameras do not look at the scene's box: what they see is reconstructed coarsely or not at all.",
        f"the optical axes of {missed.sum()} of {len(missed)} cameras miss the box",
        _within(views, "check the poses, or cover more of the scene with a smaller --scene-scale or more --cascades"),
        _named(views, missed),
    )


def _scale(views: Views) -> Mistake | None:
    enter, leave = views.crossings()
    hit = (leave >= enter) & (leave > 0)
    scene, centre = views.scene, views.box.mean(0)
    distance = np.maximum(np.linalg.norm(views.positions - centre, axis=-1), 1e-12)
    fills = np.ptp(views.box, axis=0).mean() * np.array([c.fl_x / c.width for c in views.cameras]) / distance
    beyond = hit & ((enter > scene.far) | (leave < scene.near))
    units = 1 / views.capture_scale
    if hit.any() and beyond.sum() > LOOKING * hit.sum():
        sentence = "The box does not lie between near and far: no sample lies in it."
        evidence = (
            f"the cameras are {np.median(distance):.3g} from its centre; near is {scene.near:g}, far {scene.far:g}"
        )
    elif np.median(fills) < SMALL_BOX:
        sentence = "The box is tiny in the images: the cameras are far outside it."
        evidence = f"in the median view, the box fills {np.median(fills):.1%} of the width"
    elif not 1 / UNITS < units < UNITS:
        sentence = "The units of the capture are unusual, and exports will have the same units."
        evidence = f"1 unit of the scene is {units:.3g} units of the capture"
        return Mistake("scale", sentence, evidence, "check the units of the poses, which are usually metres")
    else:
        return None
    return Mistake("scale", sentence, evidence, _within(views, "lower --scene-scale"))


def _within(views: Views, advice: str) -> str:
    if views.scene.format == "blender":  # the format itself fixes the box
        return "scale and shift the poses so that the object lies within 1.5 of the origin and the cameras about 4 away"
    return advice


def _alone(views: Views) -> Mistake | None:
    distance = np.linalg.norm(views.positions - np.median(views.positions, axis=0), axis=-1)
    usual = np.median(distance)
    far = distance > FAR_OUT * usual
    if not usual > 0 or not far.any():
        return None
    return Mistake(
        "alone",
        f"{far.sum()} {'camera is' if far.sum() == 1 else 'cameras are'} far from the others and probably misplaced.",
        f"the farthest is {distance.max() / usual:.1f} times as far from the median position as the median camera",
        "look at these photographs and leave them out if they are blurred or show something else",
        _named(views, far),
    )


def _duplicates(views: Views) -> Mistake | None:
    if not views.extent > 0:
        return None
    near: list[tuple[int, int]] = []
    for i, (place, gaze) in enumerate(zip(views.positions, views.directions, strict=True)):
        apart = np.linalg.norm(views.positions[i + 1 :] - place, axis=-1)
        chord = np.linalg.norm(views.directions[i + 1 :] - gaze, axis=-1)
        same = (apart < SAME_PLACE * views.extent) & (chord < math.radians(SAME_DEGREES))
        near += [(i, i + 1 + int(j)) for j in same.nonzero()[0]]
    if not near:
        return None
    again = np.zeros(len(views.names), dtype=bool)
    again[[pair[1] for pair in near]] = True
    first, second = (views.names[i] for i in near[0])
    return Mistake(
        "near-duplicates",
        f"{again.sum()} views are nearly the same as another view: they add nothing, and a held-out view with a "
        "near-duplicate in the training set scores too well.",
        f"{first} and {second} have the same place and direction",
        "leave them out, or take fewer frames from a video",
        _named(views, again),
    )


def _few(views: Views) -> Mistake | None:
    count = len(views.scene.splits["train"]) if "train" in views.scene.splits else len(views.names)
    if count >= FEW_VIEWS:
        return None
    return Mistake(
        "few-views",
        "There are few training images: the model will guess the views between them.",
        f"there are {count} training images",
        "take 50 or more images that overlap",
    )


def _lenses(views: Views) -> Mistake | None:
    low, high = FIELD_OF_VIEW
    angles = np.array([fields_of_view(camera) for camera in views.cameras])
    odd: NDArray[np.bool_] = np.any((angles < low) | (angles > high), axis=-1)
    middle = np.array([(abs(c.cx / c.width - 0.5), abs(c.cy / c.height - 0.5)) for c in views.cameras])
    off: NDArray[np.bool_] = np.any(middle > OFF_CENTER, axis=-1)
    folds = np.array([_folds(camera) for camera in views.cameras])
    if not (odd | off | folds).any():
        return None
    evidence = []
    if odd.any():
        evidence.append(f"fields of view are {angles[odd].min():.3g} to {angles[odd].max():.3g} degrees")
    if off.any():
        evidence.append(f"a principal point is {middle.max():.0%} of the image size off the image centre")
    if folds.any():
        evidence.append("a distortion folds the image over before its corners")
    return Mistake(
        "lenses",
        f"The intrinsics of {(odd | off | folds).sum()} of {len(odd)} cameras are implausible.",
        ", ".join(evidence),
        "check that focal lengths and principal point are pixels of the image size that the capture states, and check "
        "the signs of the distortion",
        _named(views, odd | off | folds),
    )


def _folds(camera: Intrinsics) -> bool:
    """Return whether the image corners lie farther out than the distorted radius ever gets, so that no ray reaches
    them."""
    fold = fold_radius(camera)
    if fold == math.inf:
        return False
    r2 = fold * fold
    most = fold * (1.0 + r2 * (camera.k1 + r2 * (camera.k2 + r2 * (camera.k3 + r2 * camera.k4))))
    right = max(camera.cx, camera.width - camera.cx) / camera.fl_x
    down = max(camera.cy, camera.height - camera.cy) / camera.fl_y
    return most < math.hypot(right, down)


def _named(views: Views, which: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, wanted in zip(views.names, which, strict=True) if wanted)


_Check = Callable[[Views], Mistake | None]
_OF_POSES: tuple[_Check, ...] = (_world_to_camera, _axes, _no_parallax)
_OF_PLACES: tuple[_Check, ...] = (_box_missed, _scale, _alone, _duplicates)
_OF_IMAGES: tuple[_Check, ...] = (_few, _lenses)
