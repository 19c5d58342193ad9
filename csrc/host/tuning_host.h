// What metal/tuning.h says for Metal, for the host: sizes for vectors and caches, and prefetching. Included by
// msl.h, in its anonymous namespace and under its rules; its guard has metal/tuning.h skipped.
#define NERF_METAL_TUNING_H

// A loop of known length becomes whole vectors: one of AVX-512.
constexpr uint TUNING_ITEMS = 16u;
// Located a tile ahead of the one that is read, whose rows are fetched meanwhile (rows_host.h): a tile of 64 is
// not in the way of what it fetches.
constexpr uint TUNING_POINTS = 64u;
// 24 and 12, the rows of products held in registers (tile_host.h), divide 48.
constexpr uint TUNING_ROWS = 48u;
// Two cache lines of each array, since a step of one costs more than is saved; and so many blocks, because a
// branch at each would be guessed wrong and wait for memory every time.
constexpr uint TUNING_BLOCK = 32u;
constexpr uint TUNING_BLOCKS = 64u;

inline void fetch_soon(const float* from, uint n)
{
    constexpr uint LINE = 16u;  // floats of a cache line; of half of one on Apple silicon
    for (uint j = 0u; j < n; j += LINE) {
        __builtin_prefetch(from + j);
    }
}
inline void fetch_rows_soon(const float* from, uint columns, uint stride, uint n)
{
    for (uint r = 0u; r < n; ++r) {
        fetch_soon(from + r * stride, columns);
    }
}
template <uint N, uint F, typename T>
inline void fetch_indexed_soon(const T* table, const uint* index, uint step)
{
#pragma GCC unroll 8
    for (uint i = 0u; i < N; ++i) {
        __builtin_prefetch(table + ulong(index[i * step]) * F);
    }
}
