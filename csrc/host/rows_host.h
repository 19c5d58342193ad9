// What metal/rows.h declares for Metal as plain loops, for the host with a row as one vector. Included by msl.h,
// in its anonymous namespace and under its rules.

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

template <uint N, uint F, typename T>
inline void rows_fetch(const T* table, const uint* index, uint step)
{
#pragma GCC unroll 8
    for (uint i = 0u; i < N; ++i) {
        __builtin_prefetch(table + ulong(index[i * step]) * F);
    }
}

// Two sums: additions wait for each other.
template <uint N, uint F, typename T>
inline void rows_sum(float* out, const T* table, const uint* index, const float* weight, uint step)
{
    typename Row<F>::Vector even{}, odd{};
#pragma GCC unroll 8
    for (uint i = 0u; i < N; i += 2u) {
        even += weight[i * step] * row_load<F>(table + ulong(index[i * step]) * F);
        odd += weight[(i + 1u) * step] * row_load<F>(table + ulong(index[(i + 1u) * step]) * F);
    }
    row_store<F>(out, even + odd);
}

template <uint N, uint F>
inline void rows_add(float* table, const float* value, const uint* index, const float* weight, uint step)
{
    const auto v = row_load<F>(value);
#pragma GCC unroll 8
    for (uint i = 0u; i < N; ++i) {
        float* const row = table + ulong(index[i * step]) * F;
        row_store<F>(row, row_load<F>(row) + weight[i * step] * v);
    }
}
