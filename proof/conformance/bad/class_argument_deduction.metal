// rule: language-version
#include "common.h"

struct Params {
    uint n;
    float s;
};

template <typename T>
struct Pair {
    T x;
    T y;
    Pair(T a, T b) : x(a), y(b) {}
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    Pair pair(1.0f, 2.0f);  // mistake
    a[gid] = pair.x;
}
