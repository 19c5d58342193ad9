// rule: kernel-template
#include "common.h"

struct Params {
    uint n;
    float s;
};

template <typename T>
kernel void k(device T* a [[buffer(0)]], uint gid [[thread_position_in_grid]])  // mistake
{
    a[gid] = T(1);
}
