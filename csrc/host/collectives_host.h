// What threads do together, and the memory they share. Strict mode carries it out and checks it; the plain reading
// has only kernels without it, and the names, which trap, for the others to parse. Part of csrc/host/msl.h.

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };

template <typename T, int Cols, int Rows>
struct simdgroup_matrix {
    static_assert(Cols == 8 && Rows == 8, "Metal has 8x8 matrices alone");
#if NERF_METAL_STRICT
    T mine[2] = {T(__builtin_nanf("")), T(__builtin_nanf(""))};  // so that a use of what nobody has set shows
#endif
};
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;

#if NERF_METAL_STRICT
using nerf_metal::strict::Access;
using nerf_metal::strict::Collective;

// ---- barriers and SIMD-group functions ----
// The line comes in as a default argument: it is the shader's, since that is where the call is written.
inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE())
{
    nerf_metal::strict::barrier(Collective::threadgroup_barrier, flags == mem_flags::mem_threadgroup, line);
}
inline void simdgroup_barrier(mem_flags flags, int line = __builtin_LINE())
{
    nerf_metal::strict::barrier(Collective::simdgroup_barrier, flags == mem_flags::mem_threadgroup, line);
}
#define NERF_METAL_SIMD(name, what)                                         \
    inline float name(float value, int line = __builtin_LINE())             \
    {                                                                       \
        return nerf_metal::strict::simd(Collective::what, value, 0u, line); \
    }
#define NERF_METAL_SIMD_LANE(name, what)                                         \
    inline float name(float value, ushort operand, int line = __builtin_LINE())  \
    {                                                                            \
        return nerf_metal::strict::simd(Collective::what, value, operand, line); \
    }

// ---- threadgroup memory whose every access is checked ----
// A subscript has no default argument of its own: its index brings the line.
struct SharedIndex {
    ulong value;
    int line;
    SharedIndex(ulong i, int l = __builtin_LINE()) : value(i), line(l) {}
};

template <typename T>
struct Mutable {
    using type = T;
};
template <typename T>
struct Mutable<const T> {
    using type = T;
};

// A half may be read as a float too: by way of half would be two conversions in a row, which C++ does not make.
template <typename Cell, typename T>
struct ReadAsFloat {};
template <typename Cell>
struct ReadAsFloat<Cell, half> {
    operator float() const { return static_cast<const Cell*>(this)->read(); }
};

template <typename T>
struct SharedCell : ReadAsFloat<SharedCell<T>, typename Mutable<T>::type> {
    using Value = typename Mutable<T>::type;
    const nerf_metal::strict::SharedArray& array;
    SharedIndex index;
    SharedCell(const nerf_metal::strict::SharedArray& a, SharedIndex i) : array(a), index(i) {}
    SharedCell(const SharedCell&) = default;
    T& at(Access access) const
    {
        return *static_cast<T*>(nerf_metal::strict::shared_cell(array, index.value, access, index.line));
    }
    Value read() const { return at(Access::read); }
    operator Value() const { return read(); }
    const SharedCell& operator=(Value value) const
    {
        at(Access::write) = value;
        return *this;
    }
    const SharedCell& operator=(const SharedCell& other) const { return *this = other.read(); }
    const SharedCell& operator+=(Value value) const { return *this = Value(read() + value); }
};

// An array of threadgroup memory, or a pointer into one.
template <typename T>
struct SharedPointer {
    nerf_metal::strict::SharedArray array;
    ulong first;
    SharedPointer(nerf_metal::strict::SharedArray whole, ulong i) : array(whole), first(i) {}
    template <typename U>
    SharedPointer(const SharedPointer<U>& other) : array(other.array), first(other.first)
    {
        T* const allowed = static_cast<U*>(nullptr);  // where a U* becomes a T*: only to add const
        (void)allowed;
    }
    SharedCell<T> operator[](SharedIndex i) const { return {array, {first + i.value, i.line}}; }
    SharedPointer operator+(ulong n) const { return {array, first + n}; }
    SharedPointer& operator+=(ulong n) { return *this = *this + n; }
};
#define SHARED(T, name, n) const SharedPointer<T> name{{__COUNTER__, #name, n, sizeof(T)}, 0}
#define SHARED_POINTER(T) SharedPointer<T>

// ---- matrices of a SIMD-group ----
// Where the two elements of this lane lie, counted from the pointer.
struct MatrixOffsets {
    ulong first, second;
};
inline MatrixOffsets matrix_place(Collective what, ulong memory, ulong first, ulong elements_per_row,
                                  ulong2 origin, bool transpose, int line)
{
    const uint lane =
        nerf_metal::strict::matrix(what, {memory, first, elements_per_row, origin.x, origin.y, transpose}, line);
    const ulong row = lane / 4u;
    const ulong column = lane % 4u * 2u;
    if (transpose) {
        return {column * elements_per_row + row, (column + 1u) * elements_per_row + row};
    }
    return {row * elements_per_row + column, row * elements_per_row + column + 1u};
}

// The element type follows from the matrix alone, so that arrays and pointers to what is not const convert.
template <typename T>
inline void simdgroup_load(simdgroup_matrix<T, 8, 8>& d, const typename Mutable<T>::type* src,
                           ulong elements_per_row = 8u, ulong2 matrix_origin = ulong2(0u, 0u),
                           bool transpose_matrix = false, int line = __builtin_LINE())
{
    const MatrixOffsets at = matrix_place(Collective::matrix_load, ulong(src), 0u, elements_per_row, matrix_origin,
                                          transpose_matrix, line);
    d.mine[0] = src[at.first];
    d.mine[1] = src[at.second];
}
template <typename T>
inline void simdgroup_load(simdgroup_matrix<T, 8, 8>& d, SharedPointer<const typename Mutable<T>::type> src,
                           ulong elements_per_row = 8u, ulong2 matrix_origin = ulong2(0u, 0u),
                           bool transpose_matrix = false, int line = __builtin_LINE())
{
    const MatrixOffsets at = matrix_place(Collective::matrix_load, ulong(src.array.key), src.first,
                                          elements_per_row, matrix_origin, transpose_matrix, line);
    d.mine[0] = src[{at.first, line}].at(Access::matrix_read);
    d.mine[1] = src[{at.second, line}].at(Access::matrix_read);
}
template <typename T>
inline void simdgroup_store(const simdgroup_matrix<T, 8, 8>& a, typename Mutable<T>::type* dst,
                            ulong elements_per_row = 8u, ulong2 matrix_origin = ulong2(0u, 0u),
                            bool transpose_matrix = false, int line = __builtin_LINE())
{
    const MatrixOffsets at = matrix_place(Collective::matrix_store, ulong(dst), 0u, elements_per_row,
                                          matrix_origin, transpose_matrix, line);
    dst[at.first] = a.mine[0];
    dst[at.second] = a.mine[1];
}
template <typename T>
inline void simdgroup_store(const simdgroup_matrix<T, 8, 8>& a, SharedPointer<typename Mutable<T>::type> dst,
                            ulong elements_per_row = 8u, ulong2 matrix_origin = ulong2(0u, 0u),
                            bool transpose_matrix = false, int line = __builtin_LINE())
{
    const MatrixOffsets at = matrix_place(Collective::matrix_store, ulong(dst.array.key), dst.first,
                                          elements_per_row, matrix_origin, transpose_matrix, line);
    dst[{at.first, line}].at(Access::matrix_write) = a.mine[0];
    dst[{at.second, line}].at(Access::matrix_write) = a.mine[1];
}

template <typename T, int Cols, int Rows>
inline simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value, int line = __builtin_LINE())
{
    nerf_metal::strict::matrix(Collective::matrix_fill, {as_type<uint>(float(value)), 0u, 0u, 0u, 0u, 0u}, line);
    simdgroup_matrix<T, Cols, Rows> d;
    d.mine[0] = d.mine[1] = value;
    return d;
}

// d = a b + c, summed in float: of a half result Metal does not say how. References to what is not const, as in
// Metal's document; Apple's compiler takes more.
template <typename A, typename B>
inline void matrix_product(Collective what, simdgroup_float8x8& d, simdgroup_matrix<A, 8, 8>& a,
                           simdgroup_matrix<B, 8, 8>& b, const float* c, int line)
{
    const float left[2] = {float(a.mine[0]), float(a.mine[1])};
    const float right[2] = {float(b.mine[0]), float(b.mine[1])};
    nerf_metal::strict::matrix_multiply(what, left, right, c, d.mine, line);
}
template <typename A, typename B>
inline void simdgroup_multiply(simdgroup_float8x8& d, simdgroup_matrix<A, 8, 8>& a, simdgroup_matrix<B, 8, 8>& b,
                               int line = __builtin_LINE())
{
    const float zero[2] = {0.0f, 0.0f};
    matrix_product(Collective::matrix_multiply, d, a, b, zero, line);
}
template <typename A, typename B>
inline void simdgroup_multiply_accumulate(simdgroup_float8x8& d, simdgroup_matrix<A, 8, 8>& a,
                                          simdgroup_matrix<B, 8, 8>& b, simdgroup_float8x8& c,
                                          int line = __builtin_LINE())
{
    matrix_product(Collective::matrix_multiply_accumulate, d, a, b, c.mine, line);
}
#else
inline void threadgroup_barrier(mem_flags)
{
    __builtin_trap();
}
inline void simdgroup_barrier(mem_flags)
{
    __builtin_trap();
}
#define NERF_METAL_SIMD(name, what) \
    inline float name(float)        \
    {                               \
        __builtin_trap();           \
    }
#define NERF_METAL_SIMD_LANE(name, what) \
    inline float name(float, ushort)     \
    {                                    \
        __builtin_trap();                \
    }
#define SHARED(T, name, n) T name[n]
#define SHARED_POINTER(T) T*
// The strict reading has the types.
template <typename... Arguments>
inline void simdgroup_load(Arguments&&...)
{
    __builtin_trap();
}
template <typename... Arguments>
inline void simdgroup_store(Arguments&&...)
{
    __builtin_trap();
}
template <typename... Arguments>
inline void simdgroup_multiply(Arguments&&...)
{
    __builtin_trap();
}
template <typename... Arguments>
inline void simdgroup_multiply_accumulate(Arguments&&...)
{
    __builtin_trap();
}
template <typename T, int Cols, int Rows>
inline simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T)
{
    __builtin_trap();
}
#endif

NERF_METAL_SIMD(simd_sum, sum)
NERF_METAL_SIMD(simd_product, product)
NERF_METAL_SIMD(simd_prefix_exclusive_sum, prefix_exclusive_sum)
NERF_METAL_SIMD(simd_prefix_exclusive_product, prefix_exclusive_product)
NERF_METAL_SIMD_LANE(simd_shuffle_down, shuffle_down)
NERF_METAL_SIMD_LANE(simd_broadcast, broadcast)
