// The language and its library. Other compilers bring their own and are then told to skip this file, by its guard:
// csrc/host/msl.h says which files a C++ compiler for the host reads otherwise, and how.
#ifndef NERF_METAL_LANGUAGE_H
#define NERF_METAL_LANGUAGE_H

#include <metal_stdlib>
// Brought by metal_stdlib where the compiler has it; named, so that one without it says what is missing.
#include <metal_simdgroup_matrix>
using namespace metal;

// A kernel of a template: the name by which it is launched, the template, its arguments.
#define INSTANTIATE(name, function, ...) \
    template [[host_name(#name)]] kernel decltype(function<__VA_ARGS__>) function<__VA_ARGS__>
// Threadgroup memory, declared at kernel scope; the host gives checked memory under the same name.
#define SHARED(T, name, n) threadgroup T name[n]
// A pointer to it, for the functions that a kernel hands it to.
#define SHARED_POINTER(T) threadgroup T*
// Before a loop of so few steps that each can have registers of its own: matrices have no other place.
#define UNROLL _Pragma("clang loop unroll(full)")

#endif
