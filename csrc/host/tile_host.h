// What metal/tile.h declares for Metal as plain loops, for the host as products of vectors held in registers.
// Included by msl.h, in its anonymous namespace and under its rules; its guard has metal/tile.h skipped.
#define NERF_METAL_TILE_H

#include "tile_shape.h"

typedef ScanVector TileVector;
constexpr uint TILE_LANES = SCAN_LANES;

// Registers hold ROWS x VECTORS sums: 24 of the 32 that AVX-512 and NEON have, 12 of 16 elsewhere.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr uint TILE_SUMS = 24u;
#else
constexpr uint TILE_SUMS = 12u;
#endif

// ROWS rows of the product, VECTORS vectors wide.
template <uint ROWS, uint VECTORS, bool ADD, uint END>
inline void tile_registers(float* c, uint ldc, const float* a, uint a_row, uint a_step, const float* b, uint ldb,
                           uint depth, const float* bias, const float* gate)
{
    TileVector sum[ROWS][VECTORS];
#pragma GCC unroll 32
    for (uint r = 0u; r < ROWS; ++r) {
#pragma GCC unroll 8
        for (uint v = 0u; v < VECTORS; ++v) {
            sum[r][v] = ADD ? scan_load(c + r * ldc + v * TILE_LANES) : scan_load(bias + v * TILE_LANES);
        }
    }
    // Four rows of a have one address and multiples of a_row: each with its own, they would not fit into
    // registers.
    constexpr uint FOURS = (ROWS + 3u) / 4u;
    const ulong next = a_row;
    const float* four[FOURS];
#pragma GCC unroll 8
    for (uint i = 0u; i < FOURS; ++i) {
        four[i] = a + 4u * i * next;
    }
    for (uint k = 0u; k < depth; ++k) {
        TileVector row[VECTORS];
#pragma GCC unroll 8
        for (uint v = 0u; v < VECTORS; ++v) {
            row[v] = scan_load(b + v * TILE_LANES);
        }
#pragma GCC unroll 32
        for (uint r = 0u; r < ROWS; ++r) {
            const float factor = four[r / 4u][r % 4u * next];
#pragma GCC unroll 8
            for (uint v = 0u; v < VECTORS; ++v) {
                sum[r][v] += factor * row[v];
            }
        }
#pragma GCC unroll 8
        for (uint i = 0u; i < FOURS; ++i) {
            four[i] += a_step;
        }
        b += ldb;
    }
#pragma GCC unroll 32
    for (uint r = 0u; r < ROWS; ++r) {
#pragma GCC unroll 8
        for (uint v = 0u; v < VECTORS; ++v) {
            TileVector s = sum[r][v];
            if (END == TILE_RELU) {
                s = s > TileVector{} ? s : TileVector{};
            } else if (END == TILE_GATE) {
                s = scan_load(gate + r * ldc + v * TILE_LANES) > TileVector{} ? s : TileVector{};
            }
            scan_store(c + r * ldc + v * TILE_LANES, s);
        }
    }
}

template <uint VECTORS, bool ADD, uint END>
inline void tile_columns(float* c, uint ldc, const float* a, uint a_row, uint a_step, const float* b, uint ldb,
                         uint rows, uint depth, const float* bias, const float* gate)
{
    constexpr uint WHOLE = TILE_SUMS / VECTORS;
    uint r = 0u;
    for (; r + WHOLE <= rows; r += WHOLE) {
        tile_registers<WHOLE, VECTORS, ADD, END>(c + r * ldc, ldc, a + r * a_row, a_row, a_step, b, ldb, depth,
                                                 bias, gate + r * ldc);
    }
    // What six or more leave of a multiple of 16.
    for (; r + 4u <= rows; r += 4u) {
        tile_registers<4u, VECTORS, ADD, END>(c + r * ldc, ldc, a + r * a_row, a_row, a_step, b, ldb, depth, bias,
                                              gate + r * ldc);
    }
    for (; r + 2u <= rows; r += 2u) {
        tile_registers<2u, VECTORS, ADD, END>(c + r * ldc, ldc, a + r * a_row, a_row, a_step, b, ldb, depth, bias,
                                              gate + r * ldc);
    }
    if constexpr (WHOLE % 2u != 0u) {  // three at a time, of 16 registers
        for (; r < rows; ++r) {
            tile_registers<1u, VECTORS, ADD, END>(c + r * ldc, ldc, a + r * a_row, a_row, a_step, b, ldb, depth,
                                                  bias, gate + r * ldc);
        }
    }
}

// c [rows, columns] = a b + bias, or c += a b; rows are even, columns multiples of 16. `bias` and `gate` are read
// where they count.
template <bool ADD, uint END>
inline void tile_product(float* c, uint ldc, const float* a, uint a_row, uint a_step, const float* b, uint ldb,
                         uint rows, uint columns, uint depth, const float* bias, const float* gate)
{
    constexpr uint ONE = 16u / TILE_LANES;  // vectors of a tile
    uint j = 0u;
    if constexpr (ONE == 1u) {
        for (; j + 64u <= columns; j += 64u) {
            tile_columns<4u, ADD, END>(c + j, ldc, a, a_row, a_step, b + j, ldb, rows, depth, bias + j, gate + j);
        }
        for (; j + 32u <= columns; j += 32u) {
            tile_columns<2u, ADD, END>(c + j, ldc, a, a_row, a_step, b + j, ldb, rows, depth, bias + j, gate + j);
        }
    }
    for (; j + 16u <= columns; j += 16u) {
        tile_columns<ONE, ADD, END>(c + j, ldc, a, a_row, a_step, b + j, ldb, rows, depth, bias + j, gate + j);
    }
}
