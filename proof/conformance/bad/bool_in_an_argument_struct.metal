// rule: buffer-type
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Options {
    bool on;  // mistake
    uint n;
};

kernel void k(device float* a [[buffer(0)]], constant Options& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = p.on ? 1.0f : 0.0f;
}
