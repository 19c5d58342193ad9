// How much a thread takes on at once. A GPU's threads are many and take one thing each. The host's are few: it
// reads csrc/host/tuning_host.h in place of this file, with sizes for vectors and caches. No number depends on
// them but by the order of sums that the reader of a size says.
#ifndef NERF_METAL_TUNING_H
#define NERF_METAL_TUNING_H

#include "language.h"

// Items of a loop without branches.
constexpr constant uint TUNING_ITEMS = 1u;
// Points whose rows of a table are located together.
constexpr constant uint TUNING_POINTS = 1u;
// Rows of a matrix that go through all layers together.
constexpr constant uint TUNING_ROWS = 1u;
// Elements that are skipped together, and how many such blocks are looked at before the first is worked on.
constexpr constant uint TUNING_BLOCK = 4u;
constexpr constant uint TUNING_BLOCKS = 1u;

// Numbers that will be read soon: n that follow one another; of n rows, `stride` apart, the first columns; rows of
// a table at N indices that lie `step` apart. The host asks its caches for them.
inline void fetch_soon(device const float*, uint) {}
inline void fetch_rows_soon(device const float*, uint, uint, uint) {}
template <uint N, uint F, typename T>
inline void fetch_indexed_soon(device const T*, thread const uint*, uint)
{
}

#endif
