// What both forms of a product of small matrices agree on.
#ifndef NERF_METAL_TILE_SHAPE_H
#define NERF_METAL_TILE_SHAPE_H

#include "language.h"

// Rows and columns of a tile: every width is whole tiles, and the rest is padding of zeros.
constexpr constant uint TILE_SIDE = 16u;

// What becomes of a product: itself; 0 for negative numbers; 0 where a gate, laid out like it, is not above 0.
constexpr constant uint TILE_AS_IS = 0u;
constexpr constant uint TILE_RELU = 1u;
constexpr constant uint TILE_GATE = 2u;

#endif
