"""The object of the built-in scene: a steam locomotive of toy bricks on a piece of track.

x points forward and z up. Lengths are in world units. Everything lies within about 1 of the origin.
"""

from nerf_metal.data.toy.solids import Ball, Box, Cone, Material, Solid

PITCH = 0.13  # distance between studs; a brick is one pitch high, and a whole number of pitches long and wide
_STUD_RADIUS, _STUD_HEIGHT = 0.043, 0.034  # a third and a quarter of the pitch, as on toy bricks

RED = Material((0.66, 0.035, 0.03))
GREEN = Material((0.03, 0.33, 0.09))
BLUE = Material((0.03, 0.13, 0.56))
SKY_BLUE = Material((0.12, 0.42, 0.70))
YELLOW = Material((0.88, 0.56, 0.03))
ORANGE = Material((0.85, 0.25, 0.02))
CREAM = Material((0.82, 0.76, 0.60))
BROWN = Material((0.24, 0.115, 0.05))
GREY = Material((0.42, 0.43, 0.45))
BLACK = Material((0.035, 0.035, 0.04))
COAL = Material((0.02, 0.02, 0.022))
BRASS = Material((0.98, 0.60, 0.12), mirror=0.85)  # the polished dome: mostly a mirror, tinted like gold
STEEL = Material((0.55, 0.56, 0.58), mirror=0.25)


def _studs(x0: float, y0: float, nx: int, ny: int, z: float, material: Material) -> list[Solid]:
    """Make a grid of `nx` x `ny` studs on a surface at height `z`, the first at (x0, y0)."""
    return [
        Cone(
            (x0 + PITCH * i, y0 + PITCH * j, z),
            (x0 + PITCH * i, y0 + PITCH * j, z + _STUD_HEIGHT),
            _STUD_RADIUS,
            _STUD_RADIUS,
            material,
        )
        for i in range(nx)
        for j in range(ny)
    ]


def _disc_y(x: float, z: float, y0: float, y1: float, radius: float, material: Material) -> Solid:
    """Make a cylinder along y, across the locomotive."""
    return Cone((x, y0, z), (x, y1, z), radius, radius, material)


def _tube_x(x0: float, x1: float, y: float, z: float, radius: float, material: Material) -> Solid:
    """Make a cylinder along x, along the locomotive."""
    return Cone((x0, y, z), (x1, y, z), radius, radius, material)


def _track() -> list[Solid]:
    """Make the sleepers and rails."""
    parts: list[Solid] = []
    for i in range(7):
        x = -0.9 + 0.3 * i
        parts.append(Box((x - 0.065, -0.47, -0.63), (x + 0.065, 0.47, -0.56), BROWN))
        for y in (-0.40, 0.40):
            parts += _studs(x, y, 1, 1, -0.56, BROWN)
    for y in (-0.27, 0.27):
        parts.append(Box((-1.0, y - 0.03, -0.56), (1.0, y + 0.03, -0.52), STEEL))
    return parts


def _running_gear(side: float) -> list[Solid]:
    """Make the wheels, rods and cylinder of one side; `side` is -1 or 1."""
    parts: list[Solid] = []
    axles = (-0.66, -0.20, 0.26)
    for x, radius in (*((x, 0.20) for x in axles), (0.64, 0.13)):
        z = -0.52 + radius
        parts.append(_disc_y(x, z, side * 0.22, side * 0.31, radius, BLACK))
        parts.append(_disc_y(x, z, side * 0.30, side * 0.325, 0.8 * radius, RED))
        parts.append(_disc_y(x, z, side * 0.32, side * 0.36, 0.28 * radius, YELLOW))
    crank = -0.41
    parts.append(
        Box(
            (axles[0], side * 0.375 - 0.012, crank - 0.025),
            (axles[2], side * 0.375 + 0.012, crank + 0.025),
            GREY,
        )
    )
    parts += [_disc_y(x, crank, side * 0.32, side * 0.40, 0.038, YELLOW) for x in axles]
    parts.append(Cone((axles[2], side * 0.40, crank), (0.62, side * 0.40, -0.27), 0.018, 0.018, GREY))
    parts.append(_tube_x(0.52, 0.86, side * 0.40, -0.25, 0.085, BLUE))
    parts.append(_tube_x(0.86, 0.88, side * 0.40, -0.25, 0.05, YELLOW))
    return parts


def _frame() -> list[Solid]:
    """Make the frame with the running gear, the buffers and the cowcatcher."""
    parts: list[Solid] = [
        Box((-0.92, -0.20, -0.34), (0.88, 0.20, -0.15), BLACK),
        Box((-0.98, -0.42, -0.15), (0.94, 0.42, -0.08), RED),
        Box((0.90, -0.40, -0.30), (0.96, 0.40, -0.15), YELLOW),
        Box((-1.00, -0.40, -0.30), (-0.94, 0.40, -0.15), YELLOW),
    ]
    for side in (-1.0, 1.0):
        parts += _running_gear(side)
        parts += _studs(-0.22, side * 0.36, 9, 1, -0.08, RED)
        for x0, x1 in ((0.96, 1.02), (-1.00, -1.06)):
            parts.append(_tube_x(x0, x1, side * 0.24, -0.22, 0.03, GREY))
            parts.append(_tube_x(x1, x1 + 0.02 * (1 if x1 > 0 else -1), side * 0.24, -0.22, 0.065, BLACK))
    for i in range(7):  # the cowcatcher: thin bars
        y = -0.30 + 0.10 * i
        parts.append(Cone((0.94, y, -0.30), (1.08, 0.75 * y, -0.52), 0.014, 0.014, GREY))
    parts.append(Cone((1.08, -0.24, -0.52), (1.08, 0.24, -0.52), 0.018, 0.018, GREY))
    return parts


def _boiler() -> list[Solid]:
    """Make the boiler with the chimney, the dome, the lamp and the handrails."""
    z = 0.20
    parts: list[Solid] = [
        _tube_x(-0.34, 0.70, 0.0, z, 0.25, GREEN),
        _tube_x(0.70, 0.90, 0.0, z, 0.255, BLACK),
        _tube_x(0.90, 0.92, 0.0, z, 0.19, GREY),
        Ball((0.93, 0.0, z), 0.035, YELLOW),
    ]
    parts += [_tube_x(x, x + 0.035, 0.0, z, 0.259, YELLOW) for x in (-0.17, 0.40, 0.67)]
    for i in range(4):  # the bricks that carry the boiler
        x = -0.30 + 2 * PITCH * i
        parts.append(Box((x, -0.20, -0.08), (x + 2 * PITCH - 0.01, 0.20, 0.05), (ORANGE, CREAM)[i % 2]))
    parts += [
        Cone((0.80, 0.0, 0.43), (0.80, 0.0, 0.66), 0.075, 0.095, BLACK),
        Cone((0.80, 0.0, 0.66), (0.80, 0.0, 0.76), 0.095, 0.155, RED),
        Cone((0.80, 0.0, 0.76), (0.80, 0.0, 0.79), 0.155, 0.155, BLACK),
        Cone((0.28, 0.0, 0.40), (0.28, 0.0, 0.47), 0.15, 0.14, YELLOW),
        Ball((0.28, 0.0, 0.53), 0.165, BRASS),
        Cone((-0.09, 0.0, 0.44), (-0.09, 0.0, 0.52), 0.015, 0.015, GREY),
        Cone((-0.09, 0.0, 0.50), (-0.09, 0.0, 0.60), 0.07, 0.03, ORANGE),
        Box((0.89, -0.07, 0.46), (0.93, 0.07, 0.60), BLUE),
        _tube_x(0.93, 0.98, 0.0, 0.53, 0.055, CREAM),
    ]
    parts += _studs(0.54, 0.0, 1, 1, 0.445, GREEN)
    for side in (-1.0, 1.0):  # handrails
        parts.append(_tube_x(-0.32, 0.78, side * 0.285, 0.30, 0.012, CREAM))
        parts += [_disc_y(x, 0.30, side * 0.21, side * 0.295, 0.016, CREAM) for x in (-0.05, 0.32, 0.76)]
    return parts


def _cab() -> list[Solid]:
    """Make the cab with the roof, the driver, the coal and the antenna."""
    parts: list[Solid] = []
    wall = 0.5 * PITCH
    for course in range(2):
        low, high = -0.08 + PITCH * course, -0.08 + PITCH * (course + 1) - 0.006
        colours = (BLUE, SKY_BLUE) if course else (SKY_BLUE, BLUE)
        for i in range(2):
            x = -0.86 + 2 * PITCH * i
            for side in (-1.0, 1.0):
                y0, y1 = sorted((side * 0.39, side * (0.39 - wall)))
                parts.append(Box((x, y0, low), (x + 2 * PITCH - 0.008, y1, high), colours[i]))
    parts += [
        Box((-0.40, -0.33, -0.08), (-0.34, 0.33, 0.18), BLUE),
        Box((-0.40, -0.16, 0.18), (-0.34, 0.16, 0.53), BLUE),
        Box((-0.93, -0.39, -0.08), (-0.86, 0.39, 0.12), GREEN),
        Box((-0.95, -0.45, 0.53), (-0.27, 0.45, 0.59), RED),
    ]
    for x in (-0.86, -0.40):
        for y in (-0.36, 0.36):
            parts.append(Box((x, y - 0.03, 0.18), (x + 0.06, y + 0.03, 0.53), CREAM))
    parts += _studs(-0.87, -0.325, 5, 6, 0.59, RED)
    parts += [  # the driver
        Box((-0.64, 0.06, -0.08), (-0.52, 0.26, 0.20), ORANGE),
        Cone((-0.58, 0.16, 0.20), (-0.58, 0.16, 0.36), 0.075, 0.075, YELLOW),
        Cone((-0.58, 0.16, 0.36), (-0.58, 0.16, 0.42), 0.085, 0.07, BLUE),
    ]
    for x, y, z, radius in (
        (-0.72, -0.20, 0.02, 0.11),
        (-0.74, -0.02, 0.03, 0.10),
        (-0.76, 0.16, 0.0, 0.10),
        (-0.76, -0.10, 0.13, 0.09),
    ):
        parts.append(Ball((x, y, z), radius, COAL))
    parts += [  # the antenna
        Cone((-0.87, 0.39, 0.59), (-0.92, 0.41, 0.96), 0.013, 0.010, BLACK),
        Ball((-0.92, 0.41, 0.97), 0.035, YELLOW),
    ]
    return parts


def locomotive() -> list[Solid]:
    """Return all solids of the locomotive and its track."""
    return _track() + _frame() + _boiler() + _cab()
