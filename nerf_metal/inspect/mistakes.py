"""Likely mistakes of a scene, with advice."""

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
"""Half of the smallest usual captures, LLFF's of 20 photographs."""
MISSES = 0.25
"""Part of the cameras that may look past the box: photographs of what is around it."""
LOOKING = 0.9
"""Part of the cameras that must look at their common centre, or away from it, to speak of all."""
FOCUSED = 0.3
"""Distance of the axes from the common centre, in distances of the cameras from it: freehand walks round an object stay
below 0.2."""
SAME_PLACE, SAME_DEGREES = 0.0025, 0.25
"""Of near-duplicates: distance in extents of all cameras, and angle. The closest two of Lego's views are farther
apart."""
FAR_OUT = 5.0
"""Distance from the middle of the cameras, in the median distance: on a straight track it is 2 at most."""
NO_PARALLAX = 0.01
"""Extent of the cameras' positions in diagonals of the box; fern's, which hardly move, have 0.1."""
SMALL_BOX = 0.15
"""Part of a picture's width that the box fills, in the median view: less is 240 pixels of 1600."""
UNITS = 1e4
"""Capture units in a scene unit, or the inverse: cameras that are metres apart come with factors of 0.01 to 100."""
FIELD_OF_VIEW = (10.0, 150.0)
"""Degrees: narrower is a telescope, wider no pinhole camera."""
OFF_CENTRE = 0.2
"""Distance of the principal point from the middle, in the image's size: no lens is mounted so."""


class Finding(NamedTuple):
    """A likely mistake.

    Attributes:
        name: of the kind.
        sentence: what is wrong.
        evidence: the numbers that say so.
        advice: what to do.
        views: names of the views that it is about; none where it is about all.
    """

    name: str
    sentence: str
    evidence: str
    advice: str
    views: tuple[str, ...] = ()


def find_mistakes(scene: Scene) -> list[Finding]:
    """Likely mistakes of a scene, gravest first. Where the poses themselves are wrong, nothing is said of what follows
    from that."""
    views = Views(scene)
    poses = next(filter(None, (check(views) for check in _OF_POSES)), None)
    others = [check(views) for check in ((() if poses else _OF_PLACES) + _OF_IMAGES)]
    return [finding for finding in (poses, *others) if finding]


def _world_to_camera(views: Views) -> Finding | None:
    given, inverse = focus(views.capture_poses), focus(np.linalg.inv(views.capture_poses))
    if _all_look(given) or not _all_look(inverse):
        return None
    assert inverse is not None
    return Finding(
        "world-to-camera",
        "The poses look like world-to-camera matrices: inverted, they are cameras around one point.",
        f"inverted, {inverse.share:.0%} look at a point {inverse.distance:.3g} capture units away; as given, "
        + (f"{given.share:.0%} do" if given else "they have none in common"),
        "invert the matrices: transform_matrix is camera-to-world",
    )


def _all_look(found: Focus | None) -> bool:
    return found is not None and found.share >= LOOKING and found.blur < FOCUSED


def _axes(views: Views) -> Finding | None:
    points = views.scene.points
    if points is not None and len(points):
        to = points.double().numpy()[:: max(1, len(points) // 1000)] - views.places[:, None]
        front = float(((to * views.gazes[:, None]).sum(-1) > 0).mean())
        evidence = f"{front:.0%} of the sparse points are in front of a camera, in the mean"
    else:
        found = focus(views.c2w)
        if found is None or found.blur >= FOCUSED:
            return None
        front, evidence = found.share, f"{found.share:.0%} of the cameras have the common centre in front of them"
    if front > 1 - LOOKING:
        return None
    return Finding(
        "axes",
        "The cameras look away from what they have in common: the poses seem to have OpenCV's axes, y down and z "
        "forwards.",
        evidence,
        "negate the second and third column of each matrix: OpenGL's axes are right, up, back. Where the photographs "
        "look outwards from the middle of a room, nothing is wrong",
    )


def _no_parallax(views: Views) -> Finding | None:
    share = views.extent / float(np.linalg.norm(np.ptp(views.box, axis=0)))
    if len(views.names) < 2 or share >= NO_PARALLAX:
        return None
    return Finding(
        "no-parallax",
        "All cameras stand in one place: turning alone shows no depth.",
        f"the positions spread over {share:.2%} of the box's diagonal",
        "walk while you photograph, or check that the poses' last columns are positions",
    )


def _box_missed(views: Views) -> Finding | None:
    enter, leave = views.crossings()
    missed = (leave < enter) | (leave < 0)
    if missed.mean() <= MISSES:
        return None
    return Finding(
        "box-missed",
        "Many cameras do not look at the scene's box: what they see is not reconstructed, or only coarsely.",
        f"the optical axes of {missed.sum()} of {len(missed)} cameras miss it",
        _within(views, "check the poses, or widen what is seen with a smaller --scene-scale or more --cascades"),
        _named(views, missed),
    )


def _scale(views: Views) -> Finding | None:
    enter, leave = views.crossings()
    hit = (leave >= enter) & (leave > 0)
    scene, middle = views.scene, views.box.mean(0)
    distance = np.maximum(np.linalg.norm(views.places - middle, axis=-1), 1e-12)
    fills = np.ptp(views.box, axis=0).mean() * np.array([c.fl_x / c.width for c in views.cameras]) / distance
    beyond = hit & ((enter > scene.far) | (leave < scene.near))
    units = 1 / views.capture_scale
    if hit.any() and beyond.sum() > LOOKING * hit.sum():
        sentence = "The box is not between near and far: nothing of it is sampled."
        evidence = f"cameras are {np.median(distance):.3g} from its middle; near is {scene.near:g}, far {scene.far:g}"
    elif np.median(fills) < SMALL_BOX:
        sentence = "The box is tiny in the pictures: the cameras are far outside of it."
        evidence = f"in the median view it fills {np.median(fills):.1%} of the width"
    elif not 1 / UNITS < units < UNITS:
        sentence = "The capture's units are out of the ordinary: exports will have them too."
        evidence = f"one unit of the box is {units:.3g} of the capture's"
        return Finding("scale", sentence, evidence, "check the units of the poses: metres are usual")
    else:
        return None
    return Finding("scale", sentence, evidence, _within(views, "lower --scene-scale"))


def _within(views: Views, advice: str) -> str:
    if views.scene.format == "blender":  # its box is the format's own
        return "scale and shift the poses: the object within 1.5 of the origin, the cameras about 4 away"
    return advice


def _alone(views: Views) -> Finding | None:
    distance = np.linalg.norm(views.places - np.median(views.places, axis=0), axis=-1)
    usual = np.median(distance)
    far = distance > FAR_OUT * usual
    if not usual > 0 or not far.any():
        return None
    return Finding(
        "alone",
        f"{far.sum()} {'camera is' if far.sum() == 1 else 'cameras are'} far from the others: probably placed wrongly.",
        f"{distance.max() / usual:.1f} times as far from the middle as the median camera",
        "look at these photographs (blurred, or of something else?) and leave them out",
        _named(views, far),
    )


def _duplicates(views: Views) -> Finding | None:
    if not views.extent > 0:
        return None
    near: list[tuple[int, int]] = []
    for i, (place, gaze) in enumerate(zip(views.places, views.gazes, strict=True)):
        apart = np.linalg.norm(views.places[i + 1 :] - place, axis=-1)
        chord = np.linalg.norm(views.gazes[i + 1 :] - gaze, axis=-1)
        same = (apart < SAME_PLACE * views.extent) & (chord < math.radians(SAME_DEGREES))
        near += [(i, i + 1 + int(j)) for j in same.nonzero()[0]]
    if not near:
        return None
    again = np.zeros(len(views.names), dtype=bool)
    again[[pair[1] for pair in near]] = True
    first, second = (views.names[i] for i in near[0])
    return Finding(
        "near-duplicates",
        f"{again.sum()} views are nearly the same as another one: they add nothing, and where one is held out, it is "
        "measured too well.",
        f"{first} and {second} have the same place and direction",
        "leave them out, or take fewer pictures from a film",
        _named(views, again),
    )


def _few(views: Views) -> Finding | None:
    count = len(views.scene.splits["train"]) if "train" in views.scene.splits else len(views.names)
    if count >= FEW_VIEWS:
        return None
    return Finding(
        "few-views",
        "There are few images to train on: views between them will be guesses.",
        f"{count} training images",
        "take 50 or more, all of which overlap",
    )


def _lenses(views: Views) -> Finding | None:
    low, high = FIELD_OF_VIEW
    angles = np.array([fields_of_view(camera) for camera in views.cameras])
    odd: NDArray[np.bool_] = np.any((angles < low) | (angles > high), axis=-1)
    middle = np.array([(abs(c.cx / c.width - 0.5), abs(c.cy / c.height - 0.5)) for c in views.cameras])
    off: NDArray[np.bool_] = np.any(middle > OFF_CENTRE, axis=-1)
    folds = np.array([_folds(camera) for camera in views.cameras])
    if not (odd | off | folds).any():
        return None
    evidence = []
    if odd.any():
        evidence.append(f"fields of view from {angles[odd].min():.3g} to {angles[odd].max():.3g} degrees")
    if off.any():
        evidence.append(f"a principal point {middle.max():.0%} of the size off the middle")
    if folds.any():
        evidence.append("a distortion that folds the picture over before its corners")
    return Finding(
        "lenses",
        f"The intrinsics of {(odd | off | folds).sum()} of {len(odd)} cameras are implausible.",
        ", ".join(evidence),
        "check that focal lengths and principal point are in pixels of the size that the capture states, and the signs "
        "of the distortion",
        _named(views, odd | off | folds),
    )


def _folds(camera: Intrinsics) -> bool:
    """Whether the picture reaches farther out than the lens's formula ever gets: no ray goes through its corners."""
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


_Check = Callable[[Views], Finding | None]
_OF_POSES: tuple[_Check, ...] = (_world_to_camera, _axes, _no_parallax)
_OF_PLACES: tuple[_Check, ...] = (_box_missed, _scale, _alone, _duplicates)
_OF_IMAGES: tuple[_Check, ...] = (_few, _lenses)
