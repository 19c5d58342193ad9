// Reads of random rows of a table, as fast as we know how: what reading a hash grid's entries is measured against.
// Indices are worked out a tile ahead, as vectors, and their rows fetched meanwhile; sums do not wait for each
// other.
#include <cstdint>
#include <cstring>

namespace {

constexpr int kTile = 256;

// Rows up to `last`, one less than a power of two, from the counters that follow `counter`.
void draw(uint32_t* index, uint32_t counter, uint32_t last)
{
    for (int i = 0; i < kTile; ++i) {
        uint32_t h = (counter + static_cast<uint32_t>(i)) * 2654435761u;
        h = (h ^ h >> 15) * 2246822519u;
        index[i] = (h ^ h >> 13) & last;
    }
}

template <int F>
struct Row {
    typedef float Vector __attribute__((vector_size(F * sizeof(float))));
};

template <int F>
float read(const float* table, uint32_t last, uint32_t tiles, uint32_t seed)
{
    uint32_t index[2][kTile];
    typename Row<F>::Vector sums[4] = {};
    for (uint32_t tile = 0; tile <= tiles; ++tile) {
        const uint32_t* ahead = index[tile % 2];
        const uint32_t* here = index[(tile + 1) % 2];
        draw(index[tile % 2], seed + tile * kTile, last);
        for (int i = 0; i < kTile; ++i) {
            __builtin_prefetch(table + uint64_t(ahead[i]) * F);
        }
        for (int i = 0; tile > 0 && i < kTile; i += 4) {
            typename Row<F>::Vector rows[4];
            for (int j = 0; j < 4; ++j) {
                std::memcpy(&rows[j], table + uint64_t(here[i + j]) * F, sizeof rows[j]);
                sums[j] += rows[j];
            }
        }
    }
    sums[0] += sums[1] + sums[2] + sums[3];
    float total[F];
    std::memcpy(total, &sums[0], sizeof total);
    return total[0];
}

}  // namespace

// 256 * tiles reads of rows of 1, 2, 4 or 8 floats; a number that depends on all of them, so that none is left
// out.
extern "C" float random_reads(const float* table, uint32_t last, uint32_t features, uint32_t tiles, uint32_t seed)
{
    switch (features) {
        case 1:
            return read<1>(table, last, tiles, seed);
        case 2:
            return read<2>(table, last, tiles, seed);
        case 4:
            return read<4>(table, last, tiles, seed);
        default:
            return read<8>(table, last, tiles, seed);
    }
}
