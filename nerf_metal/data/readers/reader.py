"""The protocol of a reader: what a format must provide so that a scene can be loaded from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nerf_metal.data.readers.capture import Capture
from nerf_metal.data.scene import Scene


class LoadScene(Protocol):
    """A function that loads a complete scene, see :class:`SceneReader`."""

    def __call__(self, path: Path, *, splits: Sequence[str], downscale: int) -> Scene:
        """Load the scene of a folder, with these splits, its images reduced by this whole factor."""
        ...


@dataclass(frozen=True)
class Format:
    """What every format states about itself.

    Attributes:
        name: name of the format, as ``--format`` takes it.
        mark: the file or folder by which people know the format, and the programs that write it:
            ``"poses_bounds.npy (LLFF)"``. Messages quote it.
        detect: function that gets an existing folder and returns whether it holds this format. It looks at names of
            files only, reads nothing, and never raises.
    """

    name: str
    mark: str
    detect: Callable[[Path], bool]


@dataclass(frozen=True)
class Reader(Format):
    """A reader of posed photographs: the usual kind of format.

    Attributes:
        read: function that gets an existing folder and returns its
            :class:`~nerf_metal.data.readers.capture.Capture`: for each photograph its file, its camera in pixels and
            its pose (camera-to-world, OpenGL axes: right, up, back), in the coordinates of the capture; and, where the
            format has them, splits, points on surfaces, depth bounds and masks. It decodes no image.

            Everything else is done for it: the loader splits the photographs, checks and reduces their sizes, places
            the scene in its box and opens the files.

            A file that cannot be used raises :class:`~nerf_metal.util.errors.InputError` with one line that names the
            file and the frame, what was expected, what was found and what to do::

                [load_scene: DIR/transforms.json frame 3] fl_x must be more than 0, got -5.0; give it in pixels

            What can be used in part becomes a sentence in ``Capture.notes`` instead.
            :func:`~nerf_metal.data.cameras.check_c2w` and
            :func:`~nerf_metal.data.readers.capture.check_camera` check a pose and a camera with such messages.
    """

    read: Callable[[Path], Capture]


@dataclass(frozen=True)
class SceneReader(Format):
    """A reader of a format that states the scene itself: its box, near and far. Only NeRF-synthetic does.

    Attributes:
        load: function that loads the scene.
    """

    load: LoadScene
