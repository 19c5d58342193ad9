// What metal/rows.h does for Metal point by point, for the host with a row as one vector, and with each tile of
// points located and fetched a turn before it is read. Included by msl.h, in its anonymous namespace and under its
// rules; its guard has metal/rows.h skipped.
#define NERF_METAL_ROWS_H

template <uint F>
struct Row {
    typedef float Vector __attribute__((vector_size(F * sizeof(float))));
    typedef uint Words __attribute__((vector_size(F * sizeof(uint))));
    typedef ushort Halves __attribute__((vector_size(F * sizeof(ushort))));
};

template <uint F>
inline typename Row<F>::Vector row_load(const float* from)
{
    typename Row<F>::Vector v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
// What half does to become a float (msl.h says why), on a whole row: numbers that were stored one by one are slow
// to load as one.
template <uint F>
inline typename Row<F>::Vector row_load(const half* from)
{
    typedef typename Row<F>::Vector Vector;
    typedef typename Row<F>::Words Words;
    typename Row<F>::Halves halves;
    __builtin_memcpy(&halves, from, sizeof halves);
    const Words bits = __builtin_convertvector(halves, Words);
    const Words magnitude = bits & 0x7FFFu;
    const Vector finite = (Vector)(magnitude << 13) * 5.192296858534828e33f;
    const Words body = magnitude >= 0x7C00u ? (magnitude << 13) | 0x7F800000u : (Words)finite;
    return (Vector)(body | (bits & 0x8000u) << 16);
}
template <uint F>
inline void row_store(float* to, typename Row<F>::Vector v)
{
    __builtin_memcpy(to, &v, sizeof v);
}

// One point's rows. Two sums: additions wait for each other.
template <uint N, uint F, typename T>
inline void row_sum(float* out, const T* table, const uint* index, const float* weight)
{
    typename Row<F>::Vector even{}, odd{};
#pragma GCC unroll 8
    for (uint i = 0u; i < N; i += 2u) {
        even += weight[i * TUNING_POINTS] * row_load<F>(table + ulong(index[i * TUNING_POINTS]) * F);
        odd += weight[(i + 1u) * TUNING_POINTS] * row_load<F>(table + ulong(index[(i + 1u) * TUNING_POINTS]) * F);
    }
    row_store<F>(out, even + odd);
}
template <uint N, uint F>
inline void row_add(float* table, const float* value, const uint* index, const float* weight)
{
    const auto v = row_load<F>(value);
#pragma GCC unroll 8
    for (uint i = 0u; i < N; ++i) {
        float* const row = table + ulong(index[i * TUNING_POINTS]) * F;
        row_store<F>(row, row_load<F>(row) + weight[i * TUNING_POINTS] * v);
    }
}

// Tiles that there are, and the turn more by which reading lags behind locating. Rows lie anywhere, in no cache
// nearby: fetched a tile ahead they come twice as fast.
inline uint rows_turns(uint count)
{
    return (count + TUNING_POINTS - 1u) / TUNING_POINTS + 1u;
}

template <typename Tile, uint N, uint F, typename T, typename Level>
inline void rows_sum(float* out, uint stride, const T* table, const float* positions, Level level, uint count)
{
    Tile tiles[2];
    uint read = 0u;
    for (uint turn = 0u, located = 0u; turn < rows_turns(count); ++turn) {
        Tile& ahead = tiles[turn % 2u];
        Tile& tile = tiles[(turn + 1u) % 2u];
        const uint fetch = locate_rows(ahead, positions + 3u * located, level, count - located);
        located += fetch;
        const uint n = turn < 1u ? 0u : min(TUNING_POINTS, count - read);
        for (uint k = 0u; k < max(fetch, n); ++k) {
            if (k < fetch) {
                fetch_indexed_soon<N, F>(table, ahead.index + k, TUNING_POINTS);
            }
            if (k < n) {
                row_sum<N, F>(out + (read + k) * stride, table, tile.index + k, tile.weight + k);
            }
        }
        read += n;
    }
}

template <typename Tile, uint N, uint F, typename Level>
inline void rows_add(float* table, const float* values, uint stride, const float* positions, Level level,
                     uint count)
{
    Tile tiles[2];
    uint read = 0u;
    for (uint turn = 0u, located = 0u; turn < rows_turns(count); ++turn) {
        Tile& ahead = tiles[turn % 2u];
        Tile& tile = tiles[(turn + 1u) % 2u];
        const uint fetch = locate_rows(ahead, positions + 3u * located, level, count - located);
        located += fetch;
        const uint n = turn < 1u ? 0u : min(TUNING_POINTS, count - read);
        for (uint k = 0u; k < max(fetch, n); ++k) {
            if (k < fetch) {
                fetch_indexed_soon<N, F>(table, ahead.index + k, TUNING_POINTS);
            }
            if (k < n) {
                row_add<N, F>(table, values + (read + k) * stride, tile.index + k, tile.weight + k);
            }
        }
        read += n;
    }
}
