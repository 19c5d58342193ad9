// rule: uninitialized
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    float last;
    for (uint i = 0u; i < p.n; ++i) {
        if (a[i] > p.s) {
            last = a[i];
        }
    }
    a[gid] = last;  // mistake
}
