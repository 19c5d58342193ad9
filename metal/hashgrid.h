// The multiresolution hash grid: where a point lies in a level, and the eight entries around it.
// Equations: nerf_metal/reference/hashgrid.py.
#ifndef NERF_METAL_HASHGRID_H
#define NERF_METAL_HASHGRID_H

#include "common.h"
#include "params.h"
#include "rows.h"

constexpr constant uint HASHGRID_CORNERS = 8u;

// Primes of the spatial hash (Teschner et al. 2003; Mueller et al. 2022, eq. 4).
constexpr constant uint HASHGRID_PRIME_Y = 2654435761u;
constexpr constant uint HASHGRID_PRIME_Z = 805459861u;

struct HashgridLevel {
    float scale;   // cells along an axis
    uint side;     // vertices along an axis
    uint first;    // entry of all levels
    uint entries;  // of this one
    bool hashed;
};

// Level `l`; what comes from outside is cut to the table there is.
inline HashgridLevel hashgrid_level(device const int* levels, constant HashgridParams& p, uint l)
{
    HashgridLevel level;
    const uint resolution = min(uint(max(levels[4u * l], 0)), 1u << 20u);
    level.scale = float(int(resolution));
    level.side = resolution + 2u;
    level.first = min(uint(max(levels[4u * l + 1u], 0)), p.n_entries);
    level.entries = min(uint(max(levels[4u * l + 2u], 0)), p.n_entries - level.first);
    level.hashed = levels[4u * l + 3u] != 0;
    return level;
}

// For each of eight corners: the entry within the level, and the weight of trilinear interpolation. Corner c is
// the far one along x, y, z where bits 0, 1, 2 of c are set.
struct HashgridTile {
    uint index[HASHGRID_CORNERS * TUNING_POINTS];
    float weight[HASHGRID_CORNERS * TUNING_POINTS];
    float fx[TUNING_POINTS];
    float fy[TUNING_POINTS];
    float fz[TUNING_POINTS];
};

inline float hashgrid_inside(float x)
{
    const float least = x > 0.0f ? x : 0.0f;  // of a NaN too
    return least < 1.0f ? least : 1.0f;
}

// Points 0 to n of `positions`. Vertices lie half a cell off the box, so that those of one level are not those of
// the next.
template <bool HASHED>
inline void hashgrid_locate(thread HashgridTile& tile, device const float* positions, HashgridLevel level, uint n)
{
    const uint last = level.entries - 1u;
    const uint step_y = HASHED ? HASHGRID_PRIME_Y : level.side;
    const uint step_z = HASHED ? HASHGRID_PRIME_Z : level.side * level.side;
    for (uint k = 0u; k < n; ++k) {
        const float x = hashgrid_inside(positions[3u * k]) * level.scale + 0.5f;
        const float y = hashgrid_inside(positions[3u * k + 1u]) * level.scale + 0.5f;
        const float z = hashgrid_inside(positions[3u * k + 2u]) * level.scale + 0.5f;
        const int ix = int(x);
        const int iy = int(y);
        const int iz = int(z);
        const float fx = x - float(ix);
        const float fy = y - float(iy);
        const float fz = z - float(iz);
        const uint x0 = uint(ix);
        const uint x1 = x0 + 1u;
        const uint y0 = uint(iy) * step_y;
        const uint y1 = y0 + step_y;
        const uint z0 = uint(iz) * step_z;
        const uint z1 = z0 + step_z;
        const float w00 = (1.0f - fy) * (1.0f - fz);
        const float w10 = fy * (1.0f - fz);
        const float w01 = (1.0f - fy) * fz;
        const float w11 = fy * fz;
        tile.fx[k] = fx;
        tile.fy[k] = fy;
        tile.fz[k] = fz;
        tile.weight[k] = (1.0f - fx) * w00;
        tile.weight[TUNING_POINTS + k] = fx * w00;
        tile.weight[2u * TUNING_POINTS + k] = (1.0f - fx) * w10;
        tile.weight[3u * TUNING_POINTS + k] = fx * w10;
        tile.weight[4u * TUNING_POINTS + k] = (1.0f - fx) * w01;
        tile.weight[5u * TUNING_POINTS + k] = fx * w01;
        tile.weight[6u * TUNING_POINTS + k] = (1.0f - fx) * w11;
        tile.weight[7u * TUNING_POINTS + k] = fx * w11;
        if (HASHED) {  // entries are a power of two
            tile.index[k] = (x0 ^ y0 ^ z0) & last;
            tile.index[TUNING_POINTS + k] = (x1 ^ y0 ^ z0) & last;
            tile.index[2u * TUNING_POINTS + k] = (x0 ^ y1 ^ z0) & last;
            tile.index[3u * TUNING_POINTS + k] = (x1 ^ y1 ^ z0) & last;
            tile.index[4u * TUNING_POINTS + k] = (x0 ^ y0 ^ z1) & last;
            tile.index[5u * TUNING_POINTS + k] = (x1 ^ y0 ^ z1) & last;
            tile.index[6u * TUNING_POINTS + k] = (x0 ^ y1 ^ z1) & last;
            tile.index[7u * TUNING_POINTS + k] = (x1 ^ y1 ^ z1) & last;
        } else {
            tile.index[k] = min(x0 + y0 + z0, last);
            tile.index[TUNING_POINTS + k] = min(x1 + y0 + z0, last);
            tile.index[2u * TUNING_POINTS + k] = min(x0 + y1 + z0, last);
            tile.index[3u * TUNING_POINTS + k] = min(x1 + y1 + z0, last);
            tile.index[4u * TUNING_POINTS + k] = min(x0 + y0 + z1, last);
            tile.index[5u * TUNING_POINTS + k] = min(x1 + y0 + z1, last);
            tile.index[6u * TUNING_POINTS + k] = min(x0 + y1 + z1, last);
            tile.index[7u * TUNING_POINTS + k] = min(x1 + y1 + z1, last);
        }
    }
}

// For rows.h: a whole tile, whose loop has a known length, or what is left of one; returns how many points.
inline uint locate_rows(thread HashgridTile& tile, device const float* positions, HashgridLevel level, uint left)
{
    if (left >= TUNING_POINTS) {
        if (level.hashed) {
            hashgrid_locate<true>(tile, positions, level, TUNING_POINTS);
        } else {
            hashgrid_locate<false>(tile, positions, level, TUNING_POINTS);
        }
        return TUNING_POINTS;
    }
    if (level.hashed) {
        hashgrid_locate<true>(tile, positions, level, left);
    } else {
        hashgrid_locate<false>(tile, positions, level, left);
    }
    return left;
}

#endif
