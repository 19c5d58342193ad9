// What every exponential here is made of: the composite's on all backends, and the host's own exp in
// csrc/host/msl.h.
#ifndef NERF_METAL_EXPONENTIAL_H
#define NERF_METAL_EXPONENTIAL_H

// exp(r) - 1 for r in [-ln 2 / 2, ln 2 / 2], within an ulp of exp: Cephes expf's polynomial.
inline float exponential_fraction(float r)
{
    float q = 1.9875691500e-4f;
    q = q * r + 1.3981999507e-3f;
    q = q * r + 8.3334519073e-3f;
    q = q * r + 4.1665795894e-2f;
    q = q * r + 1.6666665459e-1f;
    q = q * r + 5.0000001201e-1f;
    return q * (r * r) + r;
}

#endif
